"""Draw latent frames: one that follows a history, or a whole clip; with causal action guidance.

Source: Vid2World section 4.2 and algorithm 2. The steps themselves are in
    `v2w_gym.world_models.solvers`.
"""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from v2w_gym.configs.model import SamplerConfig
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.solvers import Solver, check_solver, make_solver, trailing_levels

Denoiser: TypeAlias = Callable[[Tensor, int], Tensor]
"""(what is drawn, its noise level) -> guided velocity of the same shape."""
Network: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (B, T, C, h, w), noise levels (B, T), action mask (G B, T)) -> velocity (G B, T, C, h, w).

With guidance the mask asks for two branches: first the one that is told the action.
"""

FIRST_DRAW, HISTORY_DRAW, STEP_DRAW = 0, 1, 2
ENCODE_DRAW, MASK_DRAW = 2**20, 2**20 + 1
"""What each draw of a frame's noise is for; the draw of step i is `STEP_DRAW` + i."""


class Noise(Protocol):
    """Standard normal numbers of the frame that is being made, and of those before it."""

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return numbers (B, *shape), the same at every call."""
        ...

    def earlier(self, frames: int) -> "Noise":
        """Return the noise of the frame made `frames` frames before this one."""
        ...


def sample(
    denoise: Denoiser, solver: Solver, noise: Tensor, draw: Callable[[int], Tensor]
) -> Tensor:
    """Turn noise of any shape into what `denoise` knows.

    Args:
        denoise: Says which velocity a noisy latent has.
        solver: A fresh one.
        noise: Standard normal numbers.
        draw: Fresh ones for a step, where the solver asks for them.
    """
    noisy = noise
    for index, level in enumerate(solver.levels):
        velocity = denoise(noisy, level)
        fresh = draw(index).to(noisy) if solver.spreads(index) else None
        noisy = solver.step(index, noisy, velocity, fresh)
    return noisy


def sample_next_frame(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    cfg: SamplerConfig,
    like: Tensor,
    noise: Noise,
) -> Tensor:
    """Return the latent (B, C, h, w) of the frame that `noise` belongs to.

    Args:
        denoise: Knows the frame's history.
        schedule: The noise schedule.
        cfg: Which solver.
        like: Any tensor (B, C, h, w), for shape and device.
        noise: Of the frame.
    """
    shape = tuple(like.shape[1:])
    first = noise.normal(FIRST_DRAW, shape).to(like)
    return sample(
        denoise, make_solver(schedule, cfg), first, lambda i: noise.normal(STEP_DRAW + i, shape)
    )


def sample_clip(
    network: Network,
    schedule: NoiseSchedule,
    cfg: SamplerConfig,
    hidden: Tensor,
    like: Tensor,
    noise: Noise,
) -> Tensor:
    """Return the latents (B, T, C, h, w) of a whole clip, all frames at one noise level throughout.

    Args:
        network: The network.
        schedule: Its noise schedule.
        cfg: Solver and guidance.
        hidden: (B, T) mask of the actions that the unconditional branch keeps.
        like: Any tensor (B, C, h, w), for shape and device.
        noise: Of the last frame.
    """
    length, shape = hidden.shape[1], tuple(like.shape[1:])
    masks = torch.ones_like(hidden), hidden

    def denoise(clip: Tensor, level: int) -> Tensor:
        levels = torch.full_like(hidden, level, dtype=torch.long)
        return guided_velocity(network, cfg, clip, levels, masks)

    first = each_frame(noise, FIRST_DRAW, length, shape).to(like)
    solver = make_solver(schedule, cfg)
    return sample(denoise, solver, first, lambda i: each_frame(noise, STEP_DRAW + i, length, shape))


def window_denoiser(
    network: Network, cfg: SamplerConfig, known: Tensor, known_level: int
) -> Denoiser:
    """Denoise a frame by running the network over the whole window that ends with it.

    Args:
        network: The network.
        cfg: Guidance.
        known: (B, T, C, h, w) the frames before it, at the history noise level.
        known_level: That level.
    """
    batch, length = known.shape[:2]
    kept = torch.ones(batch, length + 1, dtype=torch.bool, device=known.device)
    hidden = kept.clone()
    hidden[:, -1] = False

    def denoise(newest: Tensor, level: int) -> Tensor:
        levels = torch.full_like(kept, known_level, dtype=torch.long)
        levels[:, -1] = level
        window = torch.cat([known, newest[:, None]], dim=1)
        return guided_velocity(network, cfg, window, levels, (kept, hidden))[:, -1]

    return denoise


def noisy_history(
    schedule: NoiseSchedule, cfg: SamplerConfig, history: Tensor, noise: Noise
) -> Tensor:
    """Bring known frames (B, T, C, h, w), the newest of which has `noise`, to the history level.

    A frame's noise is its own, the same however long it is remembered.
    """
    length, shape = history.shape[1], tuple(history.shape[2:])
    draws = each_frame(noise, HISTORY_DRAW, length, shape).to(history)
    levels = torch.full(history.shape[:2], history_level(schedule, cfg), device=history.device)
    known = schedule.rescaled(history, levels) if cfg.rescale_history else history
    return schedule.add_noise(known, draws, levels)


def guided_velocity(
    network: Network,
    cfg: SamplerConfig,
    window: Tensor,
    levels: Tensor,
    masks: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the velocity (B, T, C, h, w) of a window, pushed towards what its actions imply.

    Both branches share one call; `masks` are the actions that each keeps. A scale of 1 needs no
    second branch. The rescale compares spreads over the whole window, known frames included, as
    the published code does.
    """
    kept, hidden = masks
    if cfg.guidance_scale == 1:
        return network(window, levels, kept)
    told, untold = network(window, levels, torch.cat([kept, hidden])).chunk(2)
    guided = guide(cfg, told, untold)
    spread = told.std((1, 2, 3, 4), keepdim=True) / guided.std((1, 2, 3, 4), keepdim=True)
    return rescale(cfg, guided, spread)


def guide(cfg: SamplerConfig, told: Tensor, untold: Tensor) -> Tensor:
    """Push a velocity away from that of the branch that is not told the action.

    Source: Vid2World equation of causal action guidance, s = 1 + lambda.
    """
    return untold + cfg.guidance_scale * (told - untold)


def rescale(cfg: SamplerConfig, guided: Tensor, spread: Tensor) -> Tensor:
    """Give a guided velocity a share of the unguided spread, `spread` being their ratio.

    Source: Lin et al. 2024, section 3.4.
    """
    return guided * (cfg.guidance_rescale * spread + 1 - cfg.guidance_rescale)


def check_sampler(schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
    """Refuse settings with which nothing sensible can be drawn.

    Raises:
        ValueError: A setting out of range.
    """
    check_solver(schedule, cfg)
    history_level(schedule, cfg)


def history_level(schedule: NoiseSchedule, cfg: SamplerConfig) -> int:
    """Return the noise level that known frames are given.

    Raises:
        ValueError: Not a level, or one that hangs on a second step where there is only one.
    """
    if cfg.history_noise_level is not None:
        if cfg.history_noise_level > len(schedule) - 2:
            raise ValueError(
                f"expected history_noise_level <= {len(schedule) - 2}, as the last level is noise "
                f"alone and shows nothing of the known frames, found {cfg.history_noise_level}"
            )
        return cfg.history_noise_level
    if cfg.steps < 2:
        raise ValueError(
            f"expected at least 2 sampler steps, or a history_noise_level, found {cfg.steps} and "
            "none; set history_noise_level, or use another preset"
        )
    return trailing_levels(len(schedule), cfg.steps)[-2]


def each_frame(noise: Noise, draw: int, frames: int, shape: tuple[int, ...]) -> Tensor:
    """Return one draw of each of the last `frames` frames: (B, T, *shape)."""
    draws = [noise.earlier(frames - 1 - t).normal(draw, shape) for t in range(frames)]
    return torch.stack(draws, dim=1)
