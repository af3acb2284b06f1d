"""Training of the autoencoder on single frames."""

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.train import AutoencoderTrainConfig
from v2w_gym.world_models.data.clips.episode_set import EpisodeSet
from v2w_gym.world_models.device import in_precision
from v2w_gym.world_models.frames import to_tensor
from v2w_gym.world_models.optimiser import Optimiser
from v2w_gym.world_models.vid2world.autoencoder import Autoencoder


def train_autoencoder(
    autoencoder: Autoencoder,
    data: EpisodeSet,
    cfg: AutoencoderTrainConfig,
    seed: int,
    optimiser: Optimiser,
    precision: str,
) -> None:
    """Train the autoencoder in place for the remaining steps, then freeze it and set its scale."""
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    background = to_tensor(data.frames[:: max(1, len(data.frames) // 512)]).mean(0)
    for step in optimiser.remaining_steps():
        rng = np.random.default_rng([seed, 1, step])
        frames = to_tensor(data.frames[rng.integers(0, len(data.frames), cfg.batch_size)])
        with in_precision(precision, "cpu"):
            latents = autoencoder.encoder(frames)
            noise = torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
            decoded = autoencoder.decoder(latents + cfg.latent_noise * noise)
        optimiser.step(reconstruction_loss(decoded, frames, background, latents, cfg))
    autoencoder.load_state_dict(optimiser.average)
    autoencoder.requires_grad_(False).eval()
    _measure_scale(autoencoder, data)


def reconstruction_loss(
    decoded: Tensor,
    frames: Tensor,
    background: Tensor,
    latents: Tensor,
    cfg: AutoencoderTrainConfig,
) -> Tensor:
    """Return the weighted absolute error, plus the latent penalty.

    Pixels that differ from the mean frame have more weight, so that small moving objects count.
    """
    weight = 1 + cfg.moving_weight * (frames - background).abs().amax(1, keepdim=True).clamp(max=1)
    error = (weight * (decoded.float() - frames).abs()).mean()
    return error + cfg.latent_penalty * latents.float().square().mean()


@torch.no_grad()
def encode_all(autoencoder: Autoencoder, data: EpisodeSet, batch: int = 256) -> Tensor:
    """Return the latents (N, C, h, w) of every frame."""
    firsts = tqdm(range(0, len(data.frames), batch), desc="encoding", unit="batch")
    return torch.cat([autoencoder.encode(to_tensor(data.frames[i : i + batch])) for i in firsts])


@torch.no_grad()
def _measure_scale(autoencoder: Autoencoder, data: EpisodeSet) -> None:
    """Set the latents' mean and spread from about 4096 frames, first encoded without scale."""
    autoencoder.latent_mean.zero_()
    autoencoder.latent_std.fill_(1)
    sample = autoencoder.encode(to_tensor(data.frames[:: max(1, len(data.frames) // 4096)]))
    autoencoder.latent_mean.copy_(sample.mean((0, 2, 3)))
    autoencoder.latent_std.copy_(sample.std((0, 2, 3)))
