"""Draw the next latent frame: DDIM on the newest frame only, with causal action guidance.

Source: Song et al. 2021 (DDIM); Vid2World section 4.2 and algorithm 2; "uniform trailing" steps as
in Lin et al. 2024.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from configs.model import SamplerConfig
from world_models.base import FrameNoise
from world_models.diffusion import NoiseSchedule

Denoiser: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (B, T, C, h, w), noise levels (B, T), action mask (B, T)) -> velocity (B, T, C, h, w)."""

FIRST_DRAW, HISTORY_DRAW, STEP_DRAW = 0, 1, 2


def sample_next_frame(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    cfg: SamplerConfig,
    history: Tensor,
    noise: FrameNoise,
) -> Tensor:
    """Return the latent (B, C, h, w) of the frame that follows `history` (B, T, C, h, w).

    The history is held at its own explicit noise level; only the newest frame is denoised.
    """
    batch, length = history.shape[:2]
    shape = tuple(history.shape[2:])
    known = noisy_history(schedule, cfg, history, noise)
    newest = noise.normal(FIRST_DRAW, shape)[:, None]
    mask = torch.ones(batch, length + 1, dtype=torch.bool)
    steps = trailing_levels(len(schedule), cfg.steps)
    for index, level in enumerate(steps):
        levels = torch.full((batch, length + 1), cfg.history_noise_level)
        levels[:, -1] = level
        window = torch.cat([known, newest], dim=1)
        velocity = guided_velocity(denoise, cfg, window, levels, mask)
        following = steps[index + 1] if index + 1 < len(steps) else None
        draw = noise.normal(STEP_DRAW + index, shape)[:, None] if cfg.eta else None
        newest = ddim_update(schedule, cfg.eta, newest, velocity, (level, following), draw)
    return newest[:, 0]


def noisy_history(
    schedule: NoiseSchedule, cfg: SamplerConfig, history: Tensor, noise: FrameNoise
) -> Tensor:
    """Bring known frames (B, T, C, h, w) to the history noise level.

    A frame's noise is its own, the same however long it is remembered.
    """
    length = history.shape[1]
    draws = [
        noise.earlier(length - t).normal(HISTORY_DRAW, tuple(history.shape[2:]))
        for t in range(length)
    ]
    levels = torch.full(history.shape[:2], cfg.history_noise_level)
    return schedule.add_noise(history, torch.stack(draws, dim=1), levels)


def guided_velocity(
    denoise: Denoiser, cfg: SamplerConfig, window: Tensor, levels: Tensor, mask: Tensor
) -> Tensor:
    """Return the newest frame's velocity (B, 1, C, h, w), pushed towards what its action implies.

    Both branches share one batch; they differ in the newest action alone. A scale of 1 needs no
    second branch.
    """
    if cfg.guidance_scale == 1:
        return denoise(window, levels, mask)[:, -1:]
    hidden = mask.clone()
    hidden[:, -1] = False
    both = denoise(window.repeat(2, 1, 1, 1, 1), levels.repeat(2, 1), torch.cat([mask, hidden]))
    told, untold = both[:, -1:].chunk(2)
    guided = untold + cfg.guidance_scale * (told - untold)
    spread = told.std((1, 2, 3, 4), keepdim=True) / guided.std((1, 2, 3, 4), keepdim=True)
    return guided * (cfg.guidance_rescale * spread + 1 - cfg.guidance_rescale)


def ddim_update(
    schedule: NoiseSchedule,
    eta: float,
    noisy: Tensor,
    velocity: Tensor,
    levels: tuple[int, int | None],
    draw: Tensor | None,
) -> Tensor:
    """Go from one noise level to the next; None is the clean latent.

    Source: DDIM equation 12; the dynamic rescale moves the clean latent from one level's scale to
    the next one's, and to 1 at the end.
    """
    level, following = levels
    at = torch.full(noisy.shape[:2], level)
    clean = schedule.clean_from_velocity(noisy, velocity, at) / schedule.scale[level]
    if following is None:
        return clean
    power, next_power = schedule.alphas_cumprod[level], schedule.alphas_cumprod[following]
    sigma = eta * ((1 - next_power) / (1 - power) * (1 - power / next_power)).sqrt()
    direction = (1 - next_power - sigma**2).clamp(min=0).sqrt()
    implied = schedule.noise_from_velocity(noisy, velocity, at)
    moved = next_power.sqrt() * schedule.scale[following] * clean + direction * implied
    return moved if draw is None else moved + sigma * draw


def trailing_levels(noise_levels: int, steps: int) -> list[int]:
    """Return `steps` levels, evenly spaced from the last level downwards.

    Raises:
        ValueError: More steps than levels, or none.
    """
    if not 1 <= steps <= noise_levels:
        raise ValueError(f"expected 1 to {noise_levels} sampler steps, found {steps}")
    return [round(noise_levels - i * noise_levels / steps) - 1 for i in range(steps)]
