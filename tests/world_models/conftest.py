"""A world model that is small enough for tests, with no layer at zero."""

import pytest
import torch

from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.vid2world.model import Vid2World

TINY = WorldModelConfig(
    window=4,
    autoencoder=AutoencoderConfig(channels=(16, 16), blocks=1, latent_channels=4),
    unet=UNetConfig(channels=16, head_channels=8, groups=4),
    sampler=SamplerConfig(steps=2),
)


def randomised(cfg: WorldModelConfig) -> Vid2World:
    """Return a model with seeded random weights everywhere, zero-initialised layers included."""
    generator = torch.Generator().manual_seed(0)
    model = Vid2World(cfg)
    for parameter in model.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise / fan_in**0.5 + (parameter.data if parameter.ndim == 1 else 0)
    return model.eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_config() -> WorldModelConfig:
    return TINY


@pytest.fixture(scope="session")
def make_model():
    return randomised


@pytest.fixture
def tiny_model(tiny_config) -> Vid2World:
    return randomised(tiny_config)
