"""The same rollouts on a GPU: run with `pytest -m gpu`."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.captured_graph import CAPTURE_AFTER
from v2w_gym.world_models.state import FrameNoise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here"),
]
GUIDED = SamplerConfig(steps=3, guidance_scale=2.5, guidance_rescale=0.7, history_noise_level=39)


@pytest.fixture(autouse=True)
def _plain_single_precision():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(params=["window", "rolling", "frozen"])
def models(request, tiny_config, make_model):
    """The same model on a CPU and on a GPU."""
    norm = "pooled" if request.param == "frozen" else "per_frame"
    unet = replace(tiny_config.unet, temporal_norm=norm)
    model = make_model(replace(tiny_config, unet=unet))
    model = model.with_sampler(replace(GUIDED, history=request.param))
    return model, copy.deepcopy(model).to("cuda")


def roll(model, frames, steps):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, frames, 64, 64, 3), np.uint8)
    unknown = np.full((2, frames - 1, 13), np.nan, np.float32)
    action = np.stack([model.robot.make_action(world_vector=x) for x in (0.02, -0.03)])
    state = model.start(pictures, unknown, FrameNoise((0, 1), (0, 0), (frames - 1,) * 2))
    states = [state]
    for frame in range(frames, frames + steps):
        state = model.step(state, action, FrameNoise((0, 1), (0, 0), (frame,) * 2))
        states.append(state)
    return states


def test_both_devices_imagine_the_same(models):
    cpu, cuda = (roll(model, 2, 6)[-1] for model in models)
    assert cuda.latents.is_cuda and not cuda.lengths.is_cuda
    torch.testing.assert_close(cuda.latents.cpu(), cpu.latents, rtol=1e-3, atol=1e-3)
    pictures = [
        model.render(state).astype(int) for model, state in zip(models, (cpu, cuda), strict=True)
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_captured_graph_changes_no_bit(models):
    """Passes of one shape are captured after a few: the same step before and after."""
    model = models[1]
    state = roll(model, 3, 0)[-1]
    action = np.stack([model.robot.make_action()] * 2)
    noise = FrameNoise((0, 1), (0, 0), (3, 3))
    steps = [model.step(state, action, noise) for _ in range(2 * CAPTURE_AFTER)]
    for before, after in zip(steps[0].tensors(), steps[-1].tensors(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=0, equal_nan=True)


def test_bfloat16_runs_and_stays_near(models):
    cpu, cuda = models
    cuda.unet.bfloat16()
    exact, half = roll(cpu, 2, 4)[-1], roll(cuda, 2, 4)[-1]
    assert half.latents.dtype == torch.float32 and half.latents.isfinite().all()
    assert (half.latents.cpu() - exact.latents).abs().mean() < 0.1 * exact.latents.abs().mean()
