import pytest
import torch

from v2w_gym.configs.model import DiffusionConfig
from v2w_gym.world_models.diffusion import NoiseSchedule


@pytest.fixture
def schedule():
    return NoiseSchedule(DiffusionConfig(rescale_final=0.7))


def test_schedule_has_the_published_values(schedule):
    # alphas_cumprod and dynamic rescale of the published models, at the levels their sampler uses
    expected = {0: 0.99915, 19: 0.981010, 39: 0.960264, 199: 0.738700, 499: 0.242359}
    for level, value in expected.items():
        assert schedule.alphas_cumprod[level].item() == pytest.approx(value, abs=5e-6)
    assert schedule.alphas_cumprod[979].item() == pytest.approx(8.5788e-5, rel=1e-4)
    assert schedule.alphas_cumprod[999].item() == 0.0
    scales = [schedule.scale[level].item() for level in (0, 19, 39, 199, 400, 999)]
    assert scales == pytest.approx([1.0, 0.985714, 0.970677, 0.850376, 0.7, 0.7], abs=1e-6)


def test_last_level_is_pure_noise(schedule):
    latents, noise = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    last = torch.full((2, 3), 999)
    assert torch.equal(schedule.add_noise(latents, noise, last), noise)
    assert torch.equal(schedule.velocity(latents, noise, last), -latents)


def test_velocity_gives_back_what_it_was_made_of(schedule):
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 5, 4, 2, 2, generator=generator)
    levels = torch.tensor([[0, 10, 300, 700, 999], [999, 1, 2, 3, 500]])
    noisy = schedule.add_noise(latents, noise, levels)
    velocity = schedule.velocity(latents, noise, levels)
    signal = schedule.alphas_cumprod[levels][..., None, None, None].sqrt()
    spread = (1 - signal**2).sqrt()
    torch.testing.assert_close(signal * noisy - spread * velocity, latents)
    torch.testing.assert_close(signal * velocity + spread * noisy, noise)


def test_frames_have_levels_of_their_own(schedule):
    latents = torch.ones(1, 2, 1, 1, 1)
    levels = torch.tensor([[39, 399]])
    noisy = schedule.add_noise(latents, torch.zeros_like(latents), levels).flatten()
    assert noisy.square().tolist() == pytest.approx([0.960264, 0.393544], abs=5e-6)
    assert schedule.rescaled(latents, levels).flatten().tolist() == pytest.approx([0.970677, 0.7])
