"""Sampling of latent frames: the next frame of a history, or a whole clip, with action guidance.

A frame starts as noise. In each denoising step the network predicts a conditional and an
unconditional velocity, guidance combines them, and a solver takes the step.

Source: Vid2World section 4.2 and algorithm 2. The solvers are in `v2w_gym.world_models.solvers`.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.solvers import make_solver, trailing_levels

Denoiser: TypeAlias = Callable[[Tensor, int], Tensor]
"""(noisy latents, their noise level) -> guided velocity of the same shape."""
Network: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (B, T, C, h, w), noise levels (B, T), action mask (G B, T)) -> velocity (G B, T, C, h, w).

The action mask is True to keep an action. With guidance there are two branches: first the
conditional one, then the unconditional one, whose mask drops the newest action.
"""

FIRST_DRAW, HISTORY_DRAW, STEP_DRAW = 0, 1, 2
ENCODE_DRAW, MASK_DRAW = 2**20, 2**20 + 1
"""Draw numbers of a frame's counter-based noise; the draw of step i is `STEP_DRAW` + i."""


class Noise(Protocol):
    """Counter-based normal noise of the sampled frame, and of earlier frames."""

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return numbers (B, *shape), the same at every call."""
        ...

    def earlier(self, frames: int) -> "Noise":
        """Return the noise of the frame that is `frames` frames earlier."""
        ...


class Sampler:
    """A sampler of frames with one schedule and one set of settings.

    It computes everything that depends on these two alone once, for all frames.

    Attributes:
        cfg: The settings.
        levels: The noise level of each denoising step.
        history_level: The noise level of history frames.
    """

    def __init__(self, schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
        """Prepare a solver, and the factors of history frames and their noise.

        Raises:
            ValueError: A setting out of range.
        """
        self.cfg = cfg
        # A solver may keep values of its frame's earlier steps. This one takes none; its copies do.
        self._unused_solver = make_solver(schedule, cfg)
        self.levels: Sequence[int] = self._unused_solver.levels
        self.history_level = history_level(schedule, cfg)
        power = schedule.alphas_cumprod[self.history_level]
        scale = schedule.scale[self.history_level].item()
        self._history_scale = scale if cfg.rescale_history else 1.0
        self._history_signal, self._history_noise = power.sqrt().item(), (1 - power).sqrt().item()

    def next_frame(self, denoise: Denoiser, like: Tensor, noise: Noise) -> Tensor:
        """Return the latent (B, C, h, w) of the frame that `noise` belongs to.

        Args:
            denoise: Predicts the velocity, conditioned on the frame's history.
            like: Any tensor (B, C, h, w), for shape and device.
            noise: Noise of the frame.
        """
        shape = tuple(like.shape[1:])
        first = noise.normal(FIRST_DRAW, shape).to(like)
        return self._sample(denoise, first, lambda i: noise.normal(STEP_DRAW + i, shape))

    def clip(
        self, network: Network, unconditional_mask: Tensor, like: Tensor, noise: Noise
    ) -> Tensor:
        """Return the latents (B, T, C, h, w) of a whole clip; all frames share each noise level.

        Args:
            network: The network.
            unconditional_mask: (B, T), the actions that the unconditional branch keeps.
            like: Any tensor (B, C, h, w), for shape and device.
            noise: Noise of the last frame.
        """
        length, shape = unconditional_mask.shape[1], tuple(like.shape[1:])
        masks = torch.ones_like(unconditional_mask), unconditional_mask

        def denoise(clip: Tensor, level: int) -> Tensor:
            levels = torch.full_like(unconditional_mask, level, dtype=torch.long)
            return self.guided_velocity(network, clip, levels, masks)

        first = each_frame(noise, FIRST_DRAW, length, shape).to(like)
        return self._sample(
            denoise, first, lambda i: each_frame(noise, STEP_DRAW + i, length, shape)
        )

    def window_denoiser(self, network: Network, history: Tensor) -> Denoiser:
        """Return a denoiser of a frame that passes the full window through the network.

        Args:
            network: The network.
            history: (B, T, C, h, w) the earlier frames, at the history noise level.
        """
        batch, length = history.shape[:2]
        # The unconditional branch drops the action that leads to the newest frame, and no other.
        conditional = torch.ones(batch, length + 1, dtype=torch.bool, device=history.device)
        unconditional = conditional.clone()
        unconditional[:, -1] = False

        def denoise(newest: Tensor, level: int) -> Tensor:
            # Noise levels (k_history, ..., k_history, k), as in Diffusion Forcing.
            levels = torch.full_like(conditional, self.history_level, dtype=torch.long)
            levels[:, -1] = level
            window = torch.cat([history, newest[:, None]], dim=1)
            masks = conditional, unconditional
            return self.guided_velocity(network, window, levels, masks)[:, -1]

        return denoise

    def noisy_history(self, history: Tensor, noise: Noise) -> Tensor:
        """Return history frames (B, T, C, h, w) at the history noise level: a c x0 + s eps.

        `noise` belongs to the newest of them. A frame's noise depends on its own counter, so it is
        the same at every later step, and a KV cache computed from it stays valid.
        """
        length, shape = history.shape[1], tuple(history.shape[2:])
        draws = each_frame(noise, HISTORY_DRAW, length, shape).to(history)
        scaled = self._history_scale * history
        return self._history_signal * scaled + self._history_noise * draws

    def guided_velocity(
        self, network: Network, window: Tensor, levels: Tensor, masks: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return the guided velocity (B, T, C, h, w) of a window.

        Both branches share one call. `masks` are the action masks of the conditional and the
        unconditional branch. A scale of 1 needs no second branch. The rescale compares
        standard deviations over the whole window, history included, as the published code does.
        """
        conditional_mask, unconditional_mask = masks
        if self.cfg.guidance_scale == 1:
            return network(window, levels, conditional_mask)
        both = network(window, levels, torch.cat([conditional_mask, unconditional_mask]))
        conditional, unconditional = both.chunk(2)
        guided = self.guide(conditional, unconditional)
        window_dims = (1, 2, 3, 4)
        ratio = conditional.std(window_dims, keepdim=True) / guided.std(window_dims, keepdim=True)
        return self.rescale(guided, ratio)

    def guide(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """Return v_u + s (v_c - v_u): causal action guidance with scale s = 1 + lambda.

        Source: Vid2World section 4.2, (1 + lambda) eps_c - lambda eps_u; velocity is linear in eps.
        """
        return unconditional + self.cfg.guidance_scale * (conditional - unconditional)

    def rescale(self, guided: Tensor, ratio: Tensor) -> Tensor:
        """Return phi v std(v_c) / std(v) + (1 - phi) v, which counters overexposure by guidance.

        Args:
            guided: The guided velocity v.
            ratio: std(v_c) / std(v).

        Source: Lin et al. 2024, section 3.4; `SamplerConfig.guidance_rescale` is phi.
        """
        return guided * (self.cfg.guidance_rescale * ratio + 1 - self.cfg.guidance_rescale)

    def _sample(self, denoise: Denoiser, noise: Tensor, draw: Callable[[int], Tensor]) -> Tensor:
        """Turn noise of any shape into clean latents.

        Args:
            denoise: Predicts the velocity of noisy latents.
            noise: Standard normal numbers.
            draw: Returns new noise for a step; called for steps that add noise.
        """
        # A solver keeps earlier predictions, so each sampling takes a copy of the unused one.
        solver, noisy = copy.deepcopy(self._unused_solver), noise
        for index, level in enumerate(solver.levels):
            velocity = denoise(noisy, level)
            fresh = draw(index).to(noisy) if solver.spreads(index) else None
            noisy = solver.step(index, noisy, velocity, fresh)
        return noisy


def history_level(schedule: NoiseSchedule, cfg: SamplerConfig) -> int:
    """Return the noise level of history frames.

    Without a setting it is the second to last of the steps' levels, as in the published code.

    Raises:
        ValueError: A level out of range, or a single step without a setting.
    """
    if cfg.history_noise_level is not None:
        if cfg.history_noise_level > len(schedule) - 2:
            raise ValueError(
                f"expected history_noise_level <= {len(schedule) - 2}, since the last level is "
                f"pure noise, found {cfg.history_noise_level}"
            )
        return cfg.history_noise_level
    if cfg.steps < 2:
        raise ValueError(
            f"expected at least 2 sampler steps, or a history_noise_level, found {cfg.steps} step "
            "and no level; set history_noise_level, or use another preset"
        )
    return trailing_levels(len(schedule), cfg.steps)[-2]


def each_frame(noise: Noise, draw: int, frames: int, shape: tuple[int, ...]) -> Tensor:
    """Return one draw for each of the last `frames` frames: (B, T, *shape)."""
    draws = [noise.earlier(frames - 1 - t).normal(draw, shape) for t in range(frames)]
    return torch.stack(draws, dim=1)
