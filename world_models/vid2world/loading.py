"""How a checkpoint becomes a `Vid2World` that runs as settings say: our own, and the published."""

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
        ValueError: Not a whole checkpoint, or a setting that does not fit the model or the device.
    """
    return _set_up(load_vid2world, path, settings)


def load_published(path: Path, settings: WorldModelSettings) -> Vid2World:
    """Return the model of a file in the published format, read once per process.

    Raises:
        ValueError: As `load_own`, or a checkpoint that is not causal.
    """
    return _set_up(_read_published, path, settings)


def _set_up(read: Reader, path: Path, settings: WorldModelSettings) -> Vid2World:
    """Return a model that shares the weights in memory and has settings of its own."""
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
    """Read what was written to `path` at a time, so that a file that is replaced is read again."""
    model = read(path, device)
    return model if dtype is None else model.with_dtype(dtype)


def _read_published(path: Path, device: str) -> Vid2World:
    from v2w_gym.world_models.vid2world.published.load import load_published, read_published

    published = read_published(path)
    if not published.causal:
        raise ValueError(
            f"expected a causal checkpoint, found the base that Vid2World starts from at {path}; "
            f"make it causal: v2w convert {path} OUT.safetensors robot=google_robot "
            "transfer=extrapolative"
        )
    if published.others:
        log.warning(
            "%s: the weights used are %s; there are others in %s: v2w convert chooses by averaged=",
            *(path, published.chosen, ", ".join(published.others)),
        )
    model = load_published(published)
    source = {"source": path.name, "weights": published.chosen}
    model.card = model.make_card({**source, "norms_and_biases": _digest(model)})
    return model.to(device)


def _digest(model: Vid2World) -> str:
    """Tell two trainings apart without reading gigabytes: the sha256 of every weight vector."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        if value.ndim == 1:
            digest.update(value.float().numpy().tobytes())
    return digest.hexdigest()
