"""The world models that the benchmark measures, and rollouts of them with a full window."""

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
from v2w_gym.world_models.vid2world.published.convert import random_weight


def make_model(cfg: BenchConfig) -> Vid2World:
    """Return the model to measure: in float32, with the window, start and guidance to measure."""
    device = torch.device(usable_device(cfg.device))
    if cfg.checkpoint is not None:
        model = load_world_model(cfg.checkpoint, device=cfg.device)
        if not isinstance(model, Vid2World):
            raise ValueError(f"expected a Vid2World checkpoint, found {type(model).__name__}")
        settings, weights = model.cfg, model.state_dict()
    elif cfg.size == "full" and device.type == "cpu":
        raise ValueError(
            "expected device=cuda for size=full, found device=cpu, where a step of 1.44 billion "
            "weights takes the better part of an hour; without size= the small model is measured"
        )
    else:
        settings = BENCH_SIZES[cfg.size]
        weights = _random_weights(settings, cfg.seed)
    start = replace(settings, window=cfg.window, context_frames=1, condition_frame="start")
    return _build(replace(start, sampler=BENCH_SAMPLER), weights).to(device)


def with_semantics(model: Vid2World, name: str) -> Vid2World:
    """Return a model with the same weights whose steps mean `name`, a key of `SEMANTICS`."""
    norm, history = SEMANTICS[name]
    if norm != model.cfg.unet.temporal_norm:
        unet = replace(model.cfg.unet, temporal_norm=norm)
        cfg = replace(model.cfg, unet=unet, sampler=BENCH_SAMPLER)
        model = _build(cfg, model.state_dict())
    return model.with_sampler(replace(model.cfg.sampler, history=history))


def with_steps(model: Vid2World, steps: int) -> Vid2World:
    """Return the model with another number of denoising steps."""
    return model.with_sampler(replace(model.cfg.sampler, steps=steps))


def full_window(model: Vid2World, rollouts: int) -> tuple[RolloutState, FrameNoise]:
    """Begin rollouts whose window lacks one frame; return also the noise of that frame."""
    known = model.window - 1
    frames = np.stack([random_frames(model.robot, known)] * rollouts)
    unknown = np.full((rollouts, known - 1, model.robot.action_size), np.nan, np.float32)
    noise = FrameNoise(tuple(range(rollouts)), (0,) * rollouts, frames=(known - 1,) * rollouts)
    return model.start(frames, unknown, noise), noise.earlier(-1)


def random_frames(robot: RobotSpec, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return random camera frames (T, H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *robot.frame_size, 3), np.uint8)


def same_moves(robot: RobotSpec, rollouts: int) -> NDArray[np.float32]:
    """Return one action that moves the robot, for each of B rollouts: (B, A)."""
    return np.stack([next(iter(robot.moves.values()))] * rollouts)


def _random_weights(cfg: WorldModelConfig, seed: int) -> dict[str, Tensor]:
    """Return random weights without zeros, so that every path between frames counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in Vid2World(cfg).state_dict().items()}
    return {name: random_weight(name, shape, generator) for name, shape in shapes.items()}


def _build(cfg: WorldModelConfig, weights: dict[str, Tensor]) -> Vid2World:
    with torch.device("meta"):
        model = Vid2World(cfg)
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)
