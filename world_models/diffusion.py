"""The noise schedule and the identities between noise, clean latent and velocity.

Velocity (v) prediction with zero terminal signal-to-noise ratio: at the last level a latent is
noise and nothing else, so a rollout can start from pure noise.
Source: Salimans & Ho 2022 (v); Lin et al. 2024 (zero terminal SNR); Vid2World section 4.1.
"""

import numpy as np
import torch
from torch import Tensor

from configs.model import DiffusionConfig


class NoiseSchedule:
    """How much signal and noise each of K levels holds; per-frame levels everywhere.

    Attributes:
        alphas_cumprod: (K,) float32, share of signal power; 0 at the last level.
        scale: (K,) float32, factor on the clean latent (dynamic rescale).
    """

    def __init__(self, cfg: DiffusionConfig) -> None:
        """Tabulate the schedule.

        Source: Lin et al. 2024, algorithm 1, on DynamiCrafter's betas.
        """
        roots = np.linspace(cfg.beta_start**0.5, cfg.beta_end**0.5, cfg.noise_levels)
        signal = np.sqrt(np.cumprod(1 - roots**2))
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
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
        """Return what the network learns to predict: v = signal * noise - spread * latent."""
        signal, spread = self._mix(levels)
        return signal * noise - spread * latents

    def clean_from_velocity(self, noisy: Tensor, velocity: Tensor, levels: Tensor) -> Tensor:
        """Return the clean latent that `noisy` and `velocity` imply."""
        signal, spread = self._mix(levels)
        return signal * noisy - spread * velocity

    def noise_from_velocity(self, noisy: Tensor, velocity: Tensor, levels: Tensor) -> Tensor:
        """Return the noise that `noisy` and `velocity` imply."""
        signal, spread = self._mix(levels)
        return signal * velocity + spread * noisy

    def rescaled(self, latents: Tensor, levels: Tensor) -> Tensor:
        """Return clean latents (B, T, C, h, w) scaled as training scales them at each level."""
        return latents * self.scale.to(latents)[levels][..., None, None, None]

    def _mix(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Amplitudes of signal and noise, (B, T, 1, 1, 1)."""
        power = self.alphas_cumprod.to(levels.device)[levels][..., None, None, None]
        return power.sqrt(), (1 - power).sqrt()
