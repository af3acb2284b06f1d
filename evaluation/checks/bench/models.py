"""Which world model is measured: one from a checkpoint, or one with random weights."""

from dataclasses import replace

import torch
from torch import Tensor

from v2w_gym.configs.checks import BENCH_SAMPLER, BENCH_SIZES, SEMANTICS, BenchConfig
from v2w_gym.configs.model import WorldModelConfig
from v2w_gym.configs.names import lookup
from v2w_gym.world_models.device import usable_device
from v2w_gym.world_models.loading import load_world_model
from v2w_gym.world_models.vid2world.model import Vid2World


def make_model(cfg: BenchConfig) -> Vid2World:
    """Return the world model that is asked for, in float32 on its device.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: An unknown size, a window without room, or a device that is not there.
    """
    device = _usable(cfg)
    if cfg.checkpoint is None:
        settings = replace(lookup(BENCH_SIZES, cfg.size, "size"), window=cfg.window)
        model = randomised(settings, cfg.seed, device)
    else:
        loaded = load_world_model(cfg.checkpoint, device=cfg.device)
        if not isinstance(loaded, Vid2World):
            raise ValueError(f"expected a Vid2World checkpoint, found {type(loaded).__name__}")
        model = loaded
    settings = replace(
        model.cfg,
        window=cfg.window,
        context_frames=1,
        condition_frame="start",
        sampler=BENCH_SAMPLER,
    )
    return _rebuilt(settings, model.state_dict())


def randomised(settings: WorldModelConfig, seed: int, device: torch.device) -> Vid2World:
    """Return a model with seeded random weights, no layer of which is left at zero.

    Matrices keep the spread of what passes through them, norms are near one: latents stay finite
    however long the rollout, and every path between frames counts.
    """
    generator = torch.Generator(device).manual_seed(seed)
    with torch.device(device):
        model = Vid2World(settings)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, device=device)
        if parameter.ndim > 1:
            parameter.data = noise / parameter[0].numel() ** 0.5
        else:
            parameter.data = 0.5 * noise + (0 if name.endswith("bias") else 1)
    if model.context is not None:
        model.context.text.normal_(generator=generator)  # the empty prompt
    return model.eval().requires_grad_(False)


def with_semantics(model: Vid2World, name: str) -> Vid2World:
    """Return a model with the same weights whose steps mean `name`, a key of `SEMANTICS`."""
    norm, history = lookup(SEMANTICS, name, "semantics")
    if norm != model.cfg.unet.temporal_norm:
        unet = replace(model.cfg.unet, temporal_norm=norm)
        settings = replace(model.cfg, unet=unet, sampler=BENCH_SAMPLER)
        model = _rebuilt(settings, model.state_dict())
    return model.with_sampler(replace(model.cfg.sampler, history=history))


def in_precision(model: Vid2World, precision: torch.dtype) -> Vid2World:
    """Return the model with its network in `precision`; the autoencoder stays in float32."""
    weights = {
        name: value if name.startswith("autoencoder.") else value.to(precision)
        for name, value in model.state_dict().items()
    }
    return _rebuilt(model.cfg, weights)


def _rebuilt(settings: WorldModelConfig, weights: dict[str, Tensor]) -> Vid2World:
    with torch.device("meta"):
        model = Vid2World(settings)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def _usable(cfg: BenchConfig) -> torch.device:
    """Return the device, if it is there and can hold the model.

    Raises:
        ValueError: It is not, or cannot.
    """
    device = torch.device(usable_device(cfg.device))
    if cfg.checkpoint is None and cfg.size == "full" and device.type == "cpu":
        raise ValueError(
            "expected device=cuda for size=full, found device=cpu, where a step of 1.44 billion "
            "weights takes the better part of an hour; without size= the small model is measured"
        )
    return device
