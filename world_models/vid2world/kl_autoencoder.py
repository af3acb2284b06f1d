"""Stable Diffusion's autoencoder between frames and latents, as in the published checkpoints."""

from torch import Tensor, nn

from v2w_gym.configs.model import KLAutoencoderConfig


class KLAutoencoder(nn.Module):
    """An autoencoder that compresses frames 8-fold in height and width, to a normal distribution.

    Frames pass one at a time, as in the published code, so memory does not grow with their number.
    Source: Latent Diffusion (arXiv 2112.10752), "Perceptual Image Compression", from `diffusers`.
    """

    def __init__(self, cfg: KLAutoencoderConfig) -> None:
        """Build encoder and decoder with fresh weights; loads nothing."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        super().__init__()
        self.sizes = sizes = len(cfg.channel_multipliers)
        self.latent_channels = cfg.latent_channels
        self.scale = cfg.scale
        self.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * sizes,
            up_block_types=("UpDecoderBlock2D",) * sizes,
            block_out_channels=tuple(cfg.channels * m for m in cfg.channel_multipliers),
            layers_per_block=cfg.blocks,
            latent_channels=cfg.latent_channels,
        )
        self.vae.enable_slicing()

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """Turn frames (B, 3, H, W) in [-1, 1] into latents (B, C, H/8, W/8) of unit variance.

        Args:
            frames: Frames to encode.
            noise: Standard normal numbers of the latents' shape, to sample the posterior; None for
                its mean.
        """
        posterior = self.vae.encode(frames).latent_dist
        latents: Tensor = (
            posterior.mean if noise is None else posterior.mean + posterior.std * noise
        )
        return latents * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Turn latents (B, C, h, w) into frames (B, 3, 8h, 8w), which may exceed [-1, 1]."""
        frames: Tensor = self.vae.decode(latents / self.scale).sample
        return frames

    def latent_shape(self, frames: Tensor) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of the latent of one of frames (N, 3, H, W)."""
        height, width = (size // 2 ** (self.sizes - 1) for size in frames.shape[2:])
        return self.latent_channels, height, width
