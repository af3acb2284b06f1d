from dataclasses import replace

import pytest
import torch

from v2w_gym.configs.model import DiffusionConfig
from v2w_gym.configs.sampler import PRESETS, SamplerConfig
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.sampler import (
    FIRST_DRAW,
    HISTORY_DRAW,
    STEP_DRAW,
    Sampler,
    history_level,
)
from v2w_gym.world_models.state import FrameNoise

SCHEDULE = NoiseSchedule(DiffusionConfig())
NOISE = FrameNoise((1, 2), (0, 0), (5, 5))


def branches(noisy, levels, mask):
    """Repeat what comes in for as many branches as there are masks."""
    count = len(mask) // len(noisy)
    return noisy.repeat(count, 1, 1, 1, 1), levels.repeat(count, 1)


def next_frame(network, schedule, cfg, history, noise):
    sampler = Sampler(schedule, cfg)
    known = sampler.noisy_history(history, noise.earlier(1))
    denoise = sampler.window_denoiser(network, known)
    return sampler.next_frame(denoise, history[:, -1], noise)


class GaussianWorld:
    """The exact denoiser of latents drawn from N(mean, spread^2); counts its calls."""

    def __init__(self, mean, spread):
        self.mean, self.spread, self.frames, self.levels = mean, spread, 0, []

    def __call__(self, noisy, levels, mask):
        noisy, levels = branches(noisy, levels, mask)
        self.frames += noisy.shape[0] * noisy.shape[1]
        self.levels.append(levels)
        power = SCHEDULE.alphas_cumprod[levels][..., None, None, None]
        signal, sigma = power.sqrt(), (1 - power).sqrt()
        gain = signal * self.spread**2 / (power * self.spread**2 + sigma**2)
        clean = self.mean + gain * (noisy - signal * self.mean)
        noise = (noisy - signal * clean) / sigma
        return signal * noise - sigma * clean


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_have_the_distribution_of_the_exact_denoiser(eta):
    cfg = SamplerConfig(steps=500, eta=eta)
    history = torch.zeros(2, 1, 4, 32, 32)
    latent = next_frame(GaussianWorld(0.6, 0.3), SCHEDULE, cfg, history, NOISE)
    assert latent.mean().item() == pytest.approx(0.6, abs=0.02)
    assert latent.std().item() == pytest.approx(0.3, abs=0.02)


def test_work_is_counted_exactly():
    history = torch.zeros(2, 3, 4, 2, 2)
    world = GaussianWorld(0.0, 1.0)
    next_frame(world, SCHEDULE, SamplerConfig(steps=5), history, NOISE)
    assert world.frames == 5 * 2 * 4  # steps x rollouts x (history + newest)
    guided = GaussianWorld(0.0, 1.0)
    cfg = SamplerConfig(steps=5, guidance_scale=2.0)
    next_frame(guided, SCHEDULE, cfg, history, NOISE)
    assert guided.frames == 2 * world.frames


def test_history_gets_its_own_noise_level():
    world = GaussianWorld(0.0, 1.0)
    cfg = SamplerConfig(steps=2, history_noise_level=17)
    next_frame(world, SCHEDULE, cfg, torch.zeros(2, 3, 4, 2, 2), NOISE)
    assert [level.tolist() for level in world.levels] == [
        [[17, 17, 17, 999]] * 2,
        [[17, 17, 17, 499]] * 2,
    ]


def test_noise_of_a_remembered_frame_stays_the_same():
    sampler = Sampler(SCHEDULE, SamplerConfig(history_noise_level=100))
    latents = torch.randn(1, 4, 2, 2, 2)
    now = sampler.noisy_history(latents, FrameNoise((3,), (0,), (9,)))
    later = sampler.noisy_history(latents[:, 1:], FrameNoise((3,), (0,), (9,)))
    assert torch.equal(now[:, 1:], later)
    assert not torch.equal(now, latents)


def masks(batch, length):
    kept = torch.ones(batch, length, dtype=torch.bool)
    hidden = kept.clone()
    hidden[:, -1] = False
    return kept, hidden


def test_guidance_of_one_is_no_guidance_and_two_pushes_twice_as_far():
    def denoise(noisy, levels, mask):
        return branches(noisy, levels, mask)[0] + mask[..., None, None, None]

    window, levels = torch.randn(2, 3, 1, 2, 2), torch.zeros(2, 3, dtype=torch.long)
    plain = Sampler(SCHEDULE, SamplerConfig()).guided_velocity(denoise, window, levels, masks(2, 3))
    assert torch.equal(plain, window + 1)
    sampler = Sampler(SCHEDULE, SamplerConfig(guidance_scale=2.0))
    pushed = sampler.guided_velocity(denoise, window, levels, masks(2, 3))
    torch.testing.assert_close(pushed[:, -1], window[:, -1] + 2)
    torch.testing.assert_close(pushed[:, :-1], window[:, :-1] + 1)


def test_full_guidance_rescale_restores_the_spread_of_the_whole_window():
    def denoise(noisy, levels, mask):
        return branches(noisy, levels, mask)[0] * (1 + mask[..., None, None, None])

    sampler = Sampler(SCHEDULE, SamplerConfig(guidance_scale=3.0, guidance_rescale=1.0))
    window, levels = torch.randn(2, 2, 4, 8, 8), torch.zeros(2, 2, dtype=torch.long)
    kept, hidden = masks(2, 2)
    guided = sampler.guided_velocity(denoise, window, levels, (kept, hidden))
    conditional = denoise(window, levels, kept)
    torch.testing.assert_close(guided.std((1, 2, 3, 4)), conditional.std((1, 2, 3, 4)))
    assert not torch.allclose(guided[:, -1].std((1, 2, 3)), conditional[:, -1].std((1, 2, 3)))


@pytest.mark.parametrize(("steps", "level"), [(50, 39), (25, 79), (20, 99), (10, 199), (5, 399)])
def test_the_published_history_level_grows_as_steps_shrink(steps, level):
    cfg = replace(PRESETS["reference"], steps=steps)
    assert history_level(SCHEDULE, cfg) == level
    assert history_level(SCHEDULE, replace(PRESETS["clean"], steps=steps)) == 39


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history_noise_level": 999}, "history_noise_level <= 998, .* found 999"),
        ({"history_noise_level": None, "steps": 1}, "at least 2 sampler steps"),
    ],
)
def test_impossible_history_levels_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        history_level(SCHEDULE, replace(SamplerConfig(), **settings))


def test_history_gets_the_scale_of_its_level_by_default():
    schedule = NoiseSchedule(DiffusionConfig(rescale_final=0.7))
    latents = torch.randn(2, 3, 1, 2, 2)
    cfg = SamplerConfig(history_noise_level=399)
    scaled = Sampler(schedule, cfg).noisy_history(latents, NOISE)
    unscaled = Sampler(schedule, replace(cfg, rescale_history=False))
    plain = unscaled.noisy_history(latents, NOISE)
    signal = schedule.alphas_cumprod[399].sqrt()
    torch.testing.assert_close(plain - scaled, 0.3 * signal * latents)


class Transcribed:
    """A network that shows every input in its output, and the published loop, literally."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, noisy, levels, mask):
        noisy, levels = branches(noisy, levels, mask)
        shown = noisy.mean(1, keepdim=True) + levels[..., None, None, None] / 1000
        return 0.5 * noisy + shown * (1 + 0.3 * mask[..., None, None, None])

    def next_frame(self, history, noise, steps, scale, rescale):
        acp, scales = self.schedule.alphas_cumprod, self.schedule.scale
        levels = [1000 // steps * (i + 1) - 1 for i in range(steps)]
        length, shape, small = history.shape[1], history.shape[2:], levels[1]
        known = [
            acp[small].sqrt() * history[:, t]
            + (1 - acp[small]).sqrt() * noise.earlier(length - t).normal(HISTORY_DRAW, shape)
            for t in range(length)
        ]
        x = noise.normal(FIRST_DRAW, shape)
        for index in reversed(range(steps)):
            t, a = levels[index], acp[levels[index]]
            a_prev = acp[levels[index - 1]] if index else acp[0]
            window = torch.stack([*known, x], 1)
            at = torch.tensor([[small] * length + [t]] * len(x))
            mask = torch.ones_like(at)
            conditional = self(window, at, mask)
            mask[:, -1] = 0
            unconditional = self(window, at, mask)
            v = unconditional + scale * (conditional - unconditional)
            ratio = conditional.std((1, 2, 3, 4)) / v.std((1, 2, 3, 4))
            v = rescale * v * ratio.view(-1, 1, 1, 1, 1) + (1 - rescale) * v
            v = v[:, -1]
            x0, eps = a.sqrt() * x - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * x
            x0 = x0 * scales[levels[max(index - 1, 0)]] / scales[t]
            sigma = ((1 - a_prev) / (1 - a) * (1 - a / a_prev)).sqrt()
            direction = (1 - a_prev - sigma**2).clamp(min=0).sqrt()
            draw = noise.normal(STEP_DRAW + steps - 1 - index, shape)
            x = a_prev.sqrt() * x0 + direction * eps + sigma * draw
        return x


@pytest.mark.parametrize("steps", [5, 10, 20])
def test_the_reference_preset_is_the_published_loop(steps):
    schedule = NoiseSchedule(DiffusionConfig(rescale_final=0.7))
    network, history = Transcribed(schedule), torch.randn(2, 3, 2, 4, 4)
    cfg = replace(PRESETS["reference"], steps=steps)
    ours = next_frame(network, schedule, cfg, history, NOISE)
    theirs = network.next_frame(history, NOISE, steps, 2.5, 0.7)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_whole_clip_has_the_distribution_of_the_exact_denoiser():
    cfg = SamplerConfig(steps=500, eta=1.0)
    hidden = torch.zeros(2, 4, dtype=torch.bool)
    world = GaussianWorld(0.6, 0.3)
    clip = Sampler(SCHEDULE, cfg).clip(world, hidden, torch.empty(2, 4, 16, 16), NOISE)
    assert clip.shape == (2, 4, 4, 16, 16)
    assert clip.mean().item() == pytest.approx(0.6, abs=0.02)
    assert clip.std().item() == pytest.approx(0.3, abs=0.02)
    assert world.frames == 500 * 2 * 4
    assert all((levels == levels[0, 0]).all() for levels in world.levels)


def test_a_clip_does_not_depend_on_its_batch():
    sampler = Sampler(SCHEDULE, SamplerConfig(steps=3, eta=1.0))

    def draw(noise):
        hidden = torch.zeros(len(noise.seeds), 4, dtype=torch.bool)
        like = torch.empty(len(hidden), 1, 2, 2)
        return sampler.clip(GaussianWorld(0.0, 1.0), hidden, like, noise)

    together = draw(FrameNoise((1, 2), (0, 0), (5, 5)))
    torch.testing.assert_close(draw(FrameNoise((2,), (0,), (5,))), together[1:])
