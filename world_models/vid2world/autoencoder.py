"""A small autoencoder between frames and latents; encode and decode include the scale."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import AutoencoderConfig


class Autoencoder(nn.Module):
    """An autoencoder that compresses frames 8-fold in height and width.

    It first folds pixels into channels (pixel unshuffle), so that no convolution runs at full size.
    On a CPU this is several times cheaper than a Stable Diffusion autoencoder of equal error.

    `latent_mean` and `latent_std` (C,) scale latents to zero mean and unit standard deviation per
    channel. They are measured on the training frames.
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, cfg: AutoencoderConfig) -> None:
        """Build encoder and decoder with fresh weights."""
        super().__init__()
        outer, inner = cfg.channels
        pixels = 3 * cfg.patch**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(cfg.patch),
            nn.Conv2d(pixels, outer, 3, padding=1),
            *(_ResidualBlock(outer) for _ in range(cfg.blocks)),
            nn.Conv2d(outer, inner, 3, stride=2, padding=1),
            *(_ResidualBlock(inner) for _ in range(cfg.blocks)),
            nn.Conv2d(inner, cfg.latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(cfg.latent_channels, inner, 3, padding=1),
            *(_ResidualBlock(inner) for _ in range(cfg.blocks)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(inner, outer, 3, padding=1),
            *(_ResidualBlock(outer) for _ in range(cfg.blocks + 1)),
            nn.Conv2d(outer, pixels, 3, padding=1),
            nn.PixelShuffle(cfg.patch),
        )
        self.register_buffer("latent_mean", torch.zeros(cfg.latent_channels))
        self.register_buffer("latent_std", torch.ones(cfg.latent_channels))

    def encode(self, frames: Tensor) -> Tensor:
        """Turn frames (B, 3, H, W) in [-1, 1] into latents (B, C, H/8, W/8) of unit variance."""
        latents: Tensor = self.encoder(frames)
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Turn latents (B, C, h, w) into frames (B, 3, 8h, 8w), clamped to [-1, 1]."""
        scaled = latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        frames: Tensor = self.decoder(scaled)
        return frames.clamp(-1, 1)


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))
