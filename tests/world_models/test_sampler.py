from dataclasses import replace

import pytest
import torch

from configs.model import DiffusionConfig, SamplerConfig
from world_models.base import FrameNoise
from world_models.diffusion import NoiseSchedule
from world_models.sampler import (
    ddim_update,
    guided_velocity,
    noisy_history,
    sample_next_frame,
    trailing_levels,
)

SCHEDULE = NoiseSchedule(DiffusionConfig())
NOISE = FrameNoise((1, 2), (0, 0), (5, 5))


class GaussianWorld:
    """The exact denoiser of latents drawn from N(mean, spread^2); counts what it is asked."""

    def __init__(self, mean, spread):
        self.mean, self.spread, self.frames, self.levels = mean, spread, 0, []

    def __call__(self, noisy, levels, mask):
        self.frames += noisy.shape[0] * noisy.shape[1]
        self.levels.append(levels)
        power = SCHEDULE.alphas_cumprod[levels][..., None, None, None]
        signal, sigma = power.sqrt(), (1 - power).sqrt()
        gain = signal * self.spread**2 / (power * self.spread**2 + sigma**2)
        clean = self.mean + gain * (noisy - signal * self.mean)
        noise = (noisy - signal * clean) / sigma
        return signal * noise - sigma * clean


def test_levels_are_the_released_ones():
    assert trailing_levels(1000, 50)[-3:] == [59, 39, 19]
    assert trailing_levels(1000, 50)[:2] == [999, 979]
    assert trailing_levels(1000, 4) == [999, 749, 499, 249]
    assert trailing_levels(1000, 1) == [999]


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match=f"found {steps}"):
        trailing_levels(1000, steps)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_have_the_distribution_of_the_exact_denoiser(eta):
    cfg = SamplerConfig(steps=500, eta=eta)
    history = torch.zeros(2, 1, 4, 32, 32)
    latent = sample_next_frame(GaussianWorld(0.6, 0.3), SCHEDULE, cfg, history, NOISE)
    assert latent.mean().item() == pytest.approx(0.6, abs=0.02)
    assert latent.std().item() == pytest.approx(0.3, abs=0.02)


def test_work_is_counted_exactly():
    history = torch.zeros(2, 3, 4, 2, 2)
    world = GaussianWorld(0.0, 1.0)
    sample_next_frame(world, SCHEDULE, SamplerConfig(steps=5), history, NOISE)
    assert world.frames == 5 * 2 * 4  # steps x rollouts x (history + newest)
    guided = GaussianWorld(0.0, 1.0)
    cfg = SamplerConfig(steps=5, guidance_scale=2.0)
    sample_next_frame(guided, SCHEDULE, cfg, history, NOISE)
    assert guided.frames == 2 * world.frames


def test_history_is_told_its_own_noise_level():
    world = GaussianWorld(0.0, 1.0)
    cfg = SamplerConfig(steps=2, history_noise_level=17)
    sample_next_frame(world, SCHEDULE, cfg, torch.zeros(2, 3, 4, 2, 2), NOISE)
    assert [level.tolist() for level in world.levels] == [
        [[17, 17, 17, 999]] * 2,
        [[17, 17, 17, 499]] * 2,
    ]


def test_noise_of_a_remembered_frame_stays_the_same():
    cfg = SamplerConfig(history_noise_level=100)
    latents = torch.randn(1, 4, 2, 2, 2)
    now = noisy_history(SCHEDULE, cfg, latents, FrameNoise((3,), (0,), (9,)))
    later = noisy_history(SCHEDULE, cfg, latents[:, 1:], FrameNoise((3,), (0,), (9,)))
    assert torch.equal(now[:, 1:], later)
    assert not torch.equal(now, latents)


def test_guidance_of_one_is_no_guidance_and_two_pushes_twice_as_far():
    def denoise(noisy, levels, mask):
        return noisy + mask[..., None, None, None]

    window, levels = torch.randn(2, 3, 1, 2, 2), torch.zeros(2, 3, dtype=torch.long)
    mask = torch.ones(2, 3, dtype=torch.bool)
    plain = guided_velocity(denoise, SamplerConfig(), window, levels, mask)
    assert torch.equal(plain, window[:, -1:] + 1)
    pushed = guided_velocity(denoise, SamplerConfig(guidance_scale=2.0), window, levels, mask)
    torch.testing.assert_close(pushed, window[:, -1:] + 2)


def test_full_guidance_rescale_restores_the_spread():
    def denoise(noisy, levels, mask):
        return noisy * (1 + mask[..., None, None, None])

    cfg = SamplerConfig(guidance_scale=3.0, guidance_rescale=1.0)
    window, levels = torch.randn(2, 1, 4, 8, 8), torch.zeros(2, 1, dtype=torch.long)
    mask = torch.ones(2, 1, dtype=torch.bool)
    guided = guided_velocity(denoise, cfg, window, levels, mask)
    told = denoise(window, levels, mask)
    torch.testing.assert_close(guided.std((1, 2, 3, 4)), told.std((1, 2, 3, 4)))


@pytest.mark.parametrize("steps", [7, 15, 20, 25, 50])
def test_full_stochasticity_never_gives_nan(steps):
    # with eta 1 the radicand is a rounding error below zero at the first of these many steps
    cfg = replace(SamplerConfig(), steps=steps, eta=1.0)
    latent = sample_next_frame(
        GaussianWorld(0.0, 1.0), SCHEDULE, cfg, torch.zeros(2, 1, 4, 2, 2), NOISE
    )
    assert latent.isfinite().all()


def test_last_update_returns_the_clean_latent_at_scale_one():
    schedule = NoiseSchedule(DiffusionConfig(rescale_final=0.7))
    clean, noise = torch.randn(2, 1, 1, 3, 2, 2)
    levels = torch.full((1, 1), 499)
    scaled = schedule.rescaled(clean[None], levels)
    noisy = schedule.add_noise(scaled, noise[None], levels)
    velocity = schedule.velocity(scaled, noise[None], levels)
    last = ddim_update(schedule, 0.0, noisy, velocity, (499, None), None)
    torch.testing.assert_close(last, clean[None], rtol=1e-4, atol=1e-5)
