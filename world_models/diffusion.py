"""The noise schedule and the identities between noise, clean latent and velocity.

The network predicts velocity (v). The schedule has zero terminal signal-to-noise ratio: at the last
level a latent is pure noise, so sampling can start from pure noise.
Source: Salimans & Ho 2022 (v); Lin et al. 2024 (zero terminal SNR); Vid2World section 4.1.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.model import DiffusionConfig


class NoiseSchedule:
    """The shares of signal and noise at each of K levels; each frame has its own level.

    Attributes:
        alphas_cumprod: (K,) float32, share of signal power; 0 at the last level.
        scale: (K,) float32, factor on the clean latent (dynamic rescale).
    """

    def __init__(self, cfg: DiffusionConfig) -> None:
        """Tabulate the schedule.

        Source: Lin et al. 2024, algorithm 1, on DynamiCrafter's betas.
        """
        signal = _signal(cfg, zero_terminal_snr=True)
        falling = np.linspace(1.0, cfg.rescale_final, cfg.rescale_levels)
        scale = np.full(cfg.noise_levels, cfg.rescale_final)
        scale[: cfg.rescale_levels] = falling[: cfg.noise_levels]
        self.alphas_cumprod = torch.from_numpy(signal**2).float()
        self.scale = torch.from_numpy(scale).float()

    def __len__(self) -> int:
        """Return the number of levels (K)."""
        return len(self.alphas_cumprod)

    def add_noise(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Return latents (B, T, C, h, w) at noise levels (B, T), without dynamic rescale."""
        signal, spread = self._mix(levels)
        return signal * latents + spread * noise

    def velocity(self, latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """Return the network's target: v = signal * noise - spread * latent."""
        signal, spread = self._mix(levels)
        return signal * noise - spread * latents

    def rescaled(self, latents: Tensor, levels: Tensor) -> Tensor:
        """Return clean latents (B, T, C, h, w) with the dynamic rescale of their levels."""
        return latents * self.scale.to(latents)[levels][..., None, None, None]

    def _mix(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the amplitudes of signal and noise, (B, T, 1, 1, 1)."""
        power = self.alphas_cumprod.to(levels.device)[levels][..., None, None, None]
        return power.sqrt(), (1 - power).sqrt()


def published_buffers(cfg: DiffusionConfig, *, zero_terminal_snr: bool) -> dict[str, Tensor]:
    """Return the schedule's tables in the form of published checkpoints, to write such files.

    A base checkpoint holds the tables without the rescale to zero terminal signal-to-noise ratio.
    """
    power = _signal(cfg, zero_terminal_snr=zero_terminal_snr) ** 2
    before = np.append(1.0, power[:-1])
    betas = 1 - power / before
    variance = betas * (1 - before) / (1 - power)
    inverse = np.zeros_like(power) if zero_terminal_snr else 1 / power
    tables = {
        "betas": betas,
        "alphas_cumprod": power,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(power),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - power),
        "log_one_minus_alphas_cumprod": np.log(1 - power),
        "sqrt_recip_alphas_cumprod": np.sqrt(inverse),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(np.maximum(inverse - 1, 0)),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - power),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - power),
        "scale_arr": np.append(
            np.linspace(1.0, cfg.rescale_final, cfg.rescale_levels),
            np.full(cfg.noise_levels, cfg.rescale_final),
        ),
    }
    return {name: torch.from_numpy(values).float() for name, values in tables.items()}


def _signal(cfg: DiffusionConfig, *, zero_terminal_snr: bool) -> NDArray[np.float64]:
    """Return the amplitude of the signal at each level (K,)."""
    roots = np.linspace(cfg.beta_start**0.5, cfg.beta_end**0.5, cfg.noise_levels)
    signal = np.sqrt(np.cumprod(1 - roots**2))
    if zero_terminal_snr:  # shift the last level to 0, and scale to keep the first
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return signal
