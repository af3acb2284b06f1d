"""The models that are measured."""

import numpy as np
import pytest
import torch

from v2w_gym.configs.checks import BenchConfig
from v2w_gym.evaluation.checks.bench.models import (
    full_window,
    make_model,
    with_semantics,
    with_steps,
)


def test_no_weight_is_left_at_zero_and_a_seed_fixes_all(tiny) -> None:
    again = make_model(BenchConfig(size="tiny", window=4))
    other = make_model(BenchConfig(size="tiny", window=4, seed=1))
    weights = tiny.state_dict()
    for name, weight in tiny.named_parameters():
        assert weight.abs().min() > 0 or weight.ndim > 1, name
        assert weight.abs().amax() > 0, name
        assert torch.equal(weight, again.state_dict()[name])
        assert not torch.equal(weight, other.state_dict()[name])
    assert weights.keys() == other.state_dict().keys()


def test_latents_stay_finite_and_of_one_size_in_a_long_rollout(tiny) -> None:
    model = with_steps(with_semantics(tiny, "rolling"), 2)
    state, noise = full_window(model, 1)
    sizes = []
    for _ in range(100):
        state = model.step(state, model.robot.make_action()[None], noise)
        noise = noise.earlier(-1)
        sizes.append(float(state.latents[:, -1].abs().max()))
    assert np.isfinite(sizes).all()
    assert max(sizes) < 100
    assert max(sizes[50:]) < 3 * max(sizes[:50])


@pytest.mark.parametrize("name", ["rolling", "window", "pooled", "frozen"])
def test_every_kind_of_step_has_the_same_weights(tiny, name) -> None:
    model = with_semantics(tiny, name)
    for key, weight in model.state_dict().items():
        assert weight.data_ptr() == tiny.state_dict()[key].data_ptr()
    assert (model.window, model.cfg.sampler.guidance_scale) == (4, 2.5)


def test_a_checkpoint_gets_the_sampler_and_window_of_the_benchmark(tiny, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    with_steps(tiny, 3).save(path, {})
    model = make_model(BenchConfig(checkpoint=str(path), window=6))
    assert model.window == 6
    assert model.cfg.sampler == tiny.cfg.sampler
    assert torch.equal(model.unet.conv_in.weight, tiny.unet.conv_in.weight)
