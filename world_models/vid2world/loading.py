"""Loading of Vid2World checkpoints, own and published, with the settings of the caller."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.sampler import SamplerConfig, preset_sampler
from v2w_gym.configs.world_model import WorldModelSettings
from v2w_gym.world_models.device import check_dtype, usable_device
from v2w_gym.world_models.vid2world.model import Vid2World, load_vid2world

log = logging.getLogger(__name__)

Reader: TypeAlias = Callable[[Path, str], Vid2World]
"""Reads a file onto a device."""


def load_own(path: Path, settings: WorldModelSettings) -> Vid2World:
    """Return the model that `Vid2World.save` wrote; its weights are read once per process.

    Raises:
        ValueError: An incomplete checkpoint, or a setting that model or device do not support.
    """
    return _set_up(load_vid2world, path, settings)


def load_published(path: Path, settings: WorldModelSettings) -> Vid2World:
    """Return the model of a file in the published format, read once per process.

    Raises:
        ValueError: As for `load_own`, or a checkpoint that is not causal.
    """
    return _set_up(_read_published, path, settings)


def _set_up(read: Reader, path: Path, settings: WorldModelSettings) -> Vid2World:
    """Return a model with these settings, which shares the weights in memory."""
    device = usable_device(settings.device)
    check_dtype(settings.dtype, device)
    model = _weights(read, path, path.stat().st_mtime_ns, device, settings.dtype)
    cfg = model.cfg
    chosen = (
        cfg.sampler
        if settings.preset is None
        else preset_sampler(settings.preset, cfg.sampler, cfg.unet.temporal_norm)
    )
    chosen = from_mapping(SamplerConfig, {**asdict(chosen), **settings.sampler}, "sampler")
    window = cfg.window if settings.window is None else settings.window
    known = cfg.context_frames if settings.context_frames is None else settings.context_frames
    return model.with_sampler(chosen).with_window(window, known)


@lru_cache(maxsize=2)
def _weights(read: Reader, path: Path, written: int, device: str, dtype: str | None) -> Vid2World:
    """Read weights; `written`, the file's time, makes the cache read a replaced file again."""
    model = read(path, device)
    return model if dtype is None else model.with_dtype(dtype)


def _read_published(path: Path, device: str) -> Vid2World:
    from v2w_gym.world_models.vid2world.published.load import load_published, read_published

    published = read_published(path)
    if not published.causal:
        raise ValueError(
            f"expected a causal checkpoint, found a base model of Vid2World at {path}; "
            f"make it causal: v2w convert {path} OUT.safetensors robot=google_robot "
            "transfer=extrapolative"
        )
    if published.others:
        log.warning(
            "%s: using the weights %s; there are others in %s; choose with v2w convert averaged=",
            *(path, published.chosen, ", ".join(published.others)),
        )
    model = load_published(published)
    source = {"source": path.name, "weights": published.chosen}
    model.card = model.make_card({**source, "norms_and_biases": _digest(model)})
    return model.to(device)


def _digest(model: Vid2World) -> str:
    """Return the sha256 of all vectors, which identifies a training without reading gigabytes."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        if value.ndim == 1:
            digest.update(value.float().numpy().tobytes())
    return digest.hexdigest()
