"""The world models that are measured, and rollouts of them with a full window."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.checks import BENCH_SAMPLER, BENCH_SIZES, SEMANTICS, BenchConfig
from v2w_gym.configs.model import WorldModelConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.device import usable_device
from v2w_gym.world_models.loading import load_world_model
from v2w_gym.world_models.state import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World


def make_model(cfg: BenchConfig) -> Vid2World:
    """Return the world model that is asked for, in float32 on its device.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A checkpoint of another kind, or a device that is not there or too slow.
    """
    device = torch.device(usable_device(cfg.device))
    if cfg.checkpoint is not None:
        model = load_world_model(cfg.checkpoint, device=cfg.device)
        if not isinstance(model, Vid2World):
            raise ValueError(f"expected a Vid2World checkpoint, found {type(model).__name__}")
    elif cfg.size == "full" and device.type == "cpu":
        raise ValueError(
            "expected device=cuda for size=full, found device=cpu, where a step of 1.44 billion "
            "weights takes the better part of an hour; without size= the small model is measured"
        )
    else:
        model = randomised(BENCH_SIZES[cfg.size], cfg.seed, device)
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
    return model


def with_semantics(model: Vid2World, name: str) -> Vid2World:
    """Return a model with the same weights whose steps mean `name`, a key of `SEMANTICS`."""
    norm, history = SEMANTICS[name]
    if norm != model.cfg.unet.temporal_norm:
        unet = replace(model.cfg.unet, temporal_norm=norm)
        settings = replace(model.cfg, unet=unet, sampler=BENCH_SAMPLER)
        model = _rebuilt(settings, model.state_dict())
    return model.with_sampler(replace(model.cfg.sampler, history=history))


def with_steps(model: Vid2World, steps: int) -> Vid2World:
    """Return the model with another number of denoising steps."""
    return model.with_sampler(replace(model.cfg.sampler, steps=steps))


def in_precision(model: Vid2World, precision: torch.dtype) -> Vid2World:
    """Return the model with its network in `precision`; the autoencoder stays in float32."""
    weights = {
        name: value if name.startswith("autoencoder.") else value.to(precision)
        for name, value in model.state_dict().items()
    }
    return _rebuilt(model.cfg, weights)


def full_window(model: Vid2World, rollouts: int) -> tuple[RolloutState, FrameNoise]:
    """Return rollouts that have begun with as many frames as leave room for one more.

    Returns:
        Their state, and the noise of the frame that comes next.
    """
    frames = np.stack([random_frames(model.robot, model.window - 1)] * rollouts)
    unknown = np.full((rollouts, model.window - 2, model.robot.action_size), np.nan, np.float32)
    keys = tuple(range(rollouts)), (0,) * rollouts
    noise = FrameNoise(*keys, frames=(model.window - 2,) * rollouts)
    return model.start(frames, unknown, noise), noise.earlier(-1)


def random_frames(robot: RobotSpec, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return random camera frames (T, H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *robot.frame_size, 3), np.uint8)


def a_move(robot: RobotSpec) -> NDArray[np.float32]:
    """Return an action (A,) that does something."""
    return next(iter(robot.moves.values()))


def device_of(model: Vid2World) -> torch.device:
    """Return where the network runs."""
    return next(model.unet.parameters()).device


def _rebuilt(settings: WorldModelConfig, weights: dict[str, Tensor]) -> Vid2World:
    with torch.device("meta"):
        model = Vid2World(settings)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)
