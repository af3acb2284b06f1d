from dataclasses import replace

import pytest
import torch

from v2w_gym.configs.model import KLAutoencoderConfig
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder

CFG = KLAutoencoderConfig(channels=32, channel_multipliers=(1, 1, 1, 2), blocks=1, scale=0.5)


@pytest.fixture(scope="module")
def autoencoder() -> KLAutoencoder:
    torch.manual_seed(0)
    return KLAutoencoder(CFG).eval().requires_grad_(False)


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_frames_shrink_eightfold_and_come_back_in_range(autoencoder, frames):
    latents = autoencoder.encode(frames)
    assert latents.shape == (2, 4, 2, 3)
    decoded = autoencoder.decode(100 * latents)
    assert decoded.shape == frames.shape
    assert decoded.abs().max() > 1  # who shows it clamps it


def test_a_draw_moves_from_the_mean_by_spread_times_noise(autoencoder, frames):
    noise = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(2))
    mean = autoencoder.encode(frames)
    once, twice = (autoencoder.encode(frames, k * noise) - mean for k in (1, 2))
    torch.testing.assert_close(twice, 2 * once)
    spread = autoencoder.vae.encode(frames).latent_dist.std
    torch.testing.assert_close(once, 0.5 * spread * noise)


def test_the_spread_is_bounded(autoencoder, frames):
    autoencoder.vae.quant_conv.bias.data[4:] += 1000  # the log-variances: far above the bound
    std = (autoencoder.encode(frames, torch.ones(2, 4, 2, 3)) - autoencoder.encode(frames)) / 0.5
    autoencoder.vae.quant_conv.bias.data[4:] -= 1000
    torch.testing.assert_close(std, torch.full_like(std, torch.e**10))  # exp(20 / 2)


def test_the_scale_lives_only_inside(autoencoder, frames):
    other = KLAutoencoder(replace(CFG, scale=1.0)).eval().requires_grad_(False)
    other.load_state_dict(autoencoder.state_dict())
    torch.testing.assert_close(other.encode(frames), 2 * autoencoder.encode(frames))
    latents = autoencoder.encode(frames)
    torch.testing.assert_close(other.decode(2 * latents), autoencoder.decode(latents))


def test_each_frame_is_on_its_own(autoencoder, frames):
    latents = autoencoder.encode(frames)
    assert torch.equal(autoencoder.encode(frames[1:]), latents[1:])
    assert torch.equal(autoencoder.decode(latents[1:]), autoencoder.decode(latents)[1:])


def test_built_without_memory_and_filled(autoencoder, frames):
    with torch.device("meta"):
        empty = KLAutoencoder(CFG)
    assert all(weight.is_meta for weight in empty.state_dict().values())
    empty.load_state_dict(autoencoder.state_dict(), assign=True)
    assert torch.equal(empty.eval().encode(frames), autoencoder.encode(frames))
