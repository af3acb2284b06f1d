"""Draw latent frames: one that follows a history, or a whole clip; DDIM and causal action guidance.

Source: Song et al. 2021 (DDIM); Vid2World section 4.2 and algorithm 2; "uniform trailing" steps as
in Lin et al. 2024.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from configs.model import SamplerConfig
from world_models.diffusion import NoiseSchedule

Denoiser: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (B, T, C, h, w), noise levels (B, T), action mask (B, T)) -> velocity (B, T, C, h, w).

With guidance a batch of 2 B comes in: first the branch that is told the action, then the other.
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


@dataclass(frozen=True)
class Step:
    """One DDIM step: from one noise level to the next, with every factor in single precision.

    Attributes:
        level: The noise level that it starts from.
        power: Share of signal power where it ends; 1 is the clean latent.
        rescale: Factor on the clean latent, from the scale at `level` to the scale at the end.
        direction: Factor on the noise that the prediction implies.
        spread: Factor on fresh noise.
    """

    level: int
    power: float
    rescale: float
    direction: float
    spread: float


def sample_next_frame(
    denoise: Denoiser, schedule: NoiseSchedule, cfg: SamplerConfig, history: Tensor, noise: Noise
) -> Tensor:
    """Return the latent (B, C, h, w) of the frame that follows `history` (B, T, C, h, w).

    The history is held at its own explicit noise level; only the newest frame is denoised.
    """
    batch, length = history.shape[:2]
    shape = tuple(history.shape[2:])
    known = noisy_history(schedule, cfg, history, noise)
    newest = noise.normal(FIRST_DRAW, shape)[:, None].to(history)
    kept = torch.ones(batch, length + 1, dtype=torch.bool, device=history.device)
    hidden = kept.clone()
    hidden[:, -1] = False
    known_level = history_level(schedule, cfg)
    for index, step in enumerate(ddim_steps(schedule, cfg)):
        levels = torch.full_like(kept, known_level, dtype=torch.long)
        levels[:, -1] = step.level
        window = torch.cat([known, newest], dim=1)
        velocity = guided_velocity(denoise, cfg, window, levels, (kept, hidden))[:, -1:]
        draw = noise.normal(STEP_DRAW + index, shape)[:, None].to(history) if step.spread else None
        newest = ddim_update(schedule, step, newest, velocity, draw)
    return newest[:, 0]


def sample_clip(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    cfg: SamplerConfig,
    hidden: Tensor,
    shape: tuple[int, ...],
    noise: Noise,
) -> Tensor:
    """Return the latents (B, T, C, h, w) of a whole clip, all frames at one noise level throughout.

    Args:
        denoise: The network.
        schedule: Its noise schedule.
        cfg: Steps and guidance.
        hidden: (B, T) mask of the actions that the unconditional branch keeps.
        shape: (C, h, w) of a latent.
        noise: Of the last frame.
    """
    length = hidden.shape[1]
    clip = each_frame(noise, FIRST_DRAW, length, shape).to(hidden.device)
    kept = torch.ones_like(hidden)
    for index, step in enumerate(ddim_steps(schedule, cfg)):
        levels = torch.full_like(hidden, step.level, dtype=torch.long)
        velocity = guided_velocity(denoise, cfg, clip, levels, (kept, hidden))
        draw = None
        if step.spread:
            draw = each_frame(noise, STEP_DRAW + index, length, shape).to(clip)
        clip = ddim_update(schedule, step, clip, velocity, draw)
    return clip


def noisy_history(
    schedule: NoiseSchedule, cfg: SamplerConfig, history: Tensor, noise: Noise
) -> Tensor:
    """Bring known frames (B, T, C, h, w) to the history noise level.

    A frame's noise is its own, the same however long it is remembered.
    """
    length, shape = history.shape[1], tuple(history.shape[2:])
    draws = each_frame(noise.earlier(1), HISTORY_DRAW, length, shape).to(history)
    levels = torch.full(history.shape[:2], history_level(schedule, cfg), device=history.device)
    known = schedule.rescaled(history, levels) if cfg.rescale_history else history
    return schedule.add_noise(known, draws, levels)


def guided_velocity(
    denoise: Denoiser,
    cfg: SamplerConfig,
    window: Tensor,
    levels: Tensor,
    masks: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the velocity (B, T, C, h, w) of a window, pushed towards what its actions imply.

    Both branches share one batch; `masks` are the actions that each keeps. A scale of 1 needs no
    second branch. The rescale compares spreads over the whole window, known frames included, as
    the released code does.
    Source: Vid2World equation of causal action guidance, s = 1 + lambda; rescale by Lin et al.
    2024, section 3.4.
    """
    kept, hidden = masks
    if cfg.guidance_scale == 1:
        return denoise(window, levels, kept)
    both = denoise(window.repeat(2, 1, 1, 1, 1), levels.repeat(2, 1), torch.cat([kept, hidden]))
    told, untold = both.chunk(2)
    guided = untold + cfg.guidance_scale * (told - untold)
    spread = told.std((1, 2, 3, 4), keepdim=True) / guided.std((1, 2, 3, 4), keepdim=True)
    return guided * (cfg.guidance_rescale * spread + 1 - cfg.guidance_rescale)


def ddim_update(
    schedule: NoiseSchedule, step: Step, noisy: Tensor, velocity: Tensor, draw: Tensor | None
) -> Tensor:
    """Take one step with latents (B, T, C, h, w).

    Source: DDIM equation 12; dynamic rescale moves the clean latent from one level's scale to the
    next one's.
    """
    at = torch.full(noisy.shape[:2], step.level, device=noisy.device)
    clean = schedule.clean_from_velocity(noisy, velocity, at) * step.rescale
    implied = schedule.noise_from_velocity(noisy, velocity, at)
    moved = step.power**0.5 * clean + step.direction * implied
    return moved if draw is None else moved + step.spread * draw


def ddim_steps(schedule: NoiseSchedule, cfg: SamplerConfig) -> list[Step]:
    """Return the steps of one frame, from noise to the clean latent (or to level 0).

    Source: DDIM equations 12 and 16. In single precision the radicand of `direction` can fall just
    below zero at the first step; it is held at zero, where the released code gives NaN.
    """
    levels = trailing_levels(len(schedule), cfg.steps)
    powers, scales = schedule.alphas_cumprod.numpy(), schedule.scale.numpy()
    ends = [(powers[level], scales[level]) for level in levels[1:]]
    last = (1.0, 1.0) if cfg.finish_clean else (powers[0], scales[levels[-1]])
    return [
        _step(level, (powers[level], scales[level]), end, cfg.eta)
        for level, end in zip(levels, [*ends, last], strict=True)
    ]


def check_sampler(schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
    """Refuse settings with which nothing sensible can be drawn.

    Raises:
        ValueError: A setting out of range.
    """
    ranges = {"eta": inf, "guidance_rescale": 1.0, "clip_keep": 1.0}
    for name, largest in ranges.items():
        value = getattr(cfg, name)
        if not (isfinite(value) and 0 <= value <= largest):
            raise ValueError(f"expected {name} from 0 to {largest:g}, found {value}")
    if not isfinite(cfg.guidance_scale):
        raise ValueError(f"expected a finite guidance_scale, found {cfg.guidance_scale}")
    trailing_levels(len(schedule), cfg.steps)
    history_level(schedule, cfg)


def history_level(schedule: NoiseSchedule, cfg: SamplerConfig) -> int:
    """Return the noise level that known frames are given.

    Raises:
        ValueError: Not a level, or one that hangs on a second step where there is only one.
    """
    if cfg.history_noise_level is not None:
        if not 0 <= cfg.history_noise_level < len(schedule):
            raise ValueError(
                f"expected history_noise_level from 0 to {len(schedule) - 1}, found "
                f"{cfg.history_noise_level}"
            )
        return cfg.history_noise_level
    if cfg.steps < 2:
        raise ValueError(
            f"expected at least 2 sampler steps, or a history_noise_level, found {cfg.steps} and "
            "none; set history_noise_level, or use another preset"
        )
    return trailing_levels(len(schedule), cfg.steps)[-2]


def trailing_levels(noise_levels: int, steps: int) -> list[int]:
    """Return `steps` levels, evenly spaced from the last level downwards.

    Raises:
        ValueError: More steps than levels, or none.
    """
    if not 1 <= steps <= noise_levels:
        raise ValueError(f"expected 1 to {noise_levels} sampler steps, found {steps}")
    spaced = np.arange(noise_levels, 0, -noise_levels / steps)[:steps]  # rounding can add one
    return [int(level) - 1 for level in np.round(spaced)]


def each_frame(noise: Noise, draw: int, frames: int, shape: tuple[int, ...]) -> Tensor:
    """Return one draw of each of the last `frames` frames: (B, T, *shape)."""
    draws = [noise.earlier(frames - 1 - t).normal(draw, shape) for t in range(frames)]
    return torch.stack(draws, dim=1)


def _step(
    level: int, start: tuple[np.float32, np.float32], end: tuple[float, float], eta: float
) -> Step:
    """Tabulate one step from (power, scale) to (power, scale)."""
    before, after = float(start[0]), float(end[0])
    noise_share = (1 - after) / float(1 - start[0])
    spread = np.float32(eta * (noise_share * (1 - before / after)) ** 0.5)
    radicand = 1 - np.float32(after) - spread**2
    direction = float(max(radicand, np.float32(0))) ** 0.5
    return Step(level, after, float(np.float32(end[1]) / start[1]), direction, float(spread))
