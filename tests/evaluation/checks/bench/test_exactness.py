"""The check passes steps that are exact, and nothing else."""

from itertools import islice
from typing import Any

import pytest
import torch

from v2w_gym.evaluation.checks.bench import exactness
from v2w_gym.evaluation.checks.bench.exactness import (
    SAMPLE_TOLERANCE,
    TOLERANCE,
    baseline_latents,
    check_agreement,
    relative_distance,
    rollout_moments,
    steps_compared,
)
from v2w_gym.evaluation.checks.bench.models import with_semantics
from v2w_gym.world_models.vid2world.kv_cache import KVCache


@pytest.mark.parametrize("name", ["rolling", "window", "pooled"])
def test_exact_steps_pass(tiny, name) -> None:
    found = check_agreement(with_semantics(tiny, name), name, quick=False)
    assert found["passed"]
    assert 0 < found["relative_error"] <= TOLERANCE
    assert 0 < found["sample_error"] <= SAMPLE_TOLERANCE


def test_pooled_norms_with_a_cache_fail(tiny, monkeypatch) -> None:
    model = with_semantics(tiny, "frozen")
    measured = check_agreement(model, "frozen", quick=True)
    monkeypatch.setattr(exactness, "APPROXIMATE", ())
    found = check_agreement(model, "frozen", quick=True)
    assert not found["passed"]
    assert found["relative_error"] > 100 * TOLERANCE
    assert measured == found | {"exact": False, "passed": True}


def test_a_cache_that_evicts_too_late_fails(tiny, monkeypatch) -> None:
    longer = with_semantics(tiny, "rolling").with_window(8, 1)
    naive_next = exactness.naive_next
    monkeypatch.setattr(exactness, "naive_next", lambda *given: naive_next(*given[:-1], 4))
    found = check_agreement(longer, "rolling", quick=True)
    assert found["relative_error"] > 100 * TOLERANCE
    assert not found["passed"]


@pytest.mark.parametrize("part", ["keys", "values", "conv_inputs", "velocity_sums"])
def test_a_cache_with_a_stale_part_fails(tiny, monkeypatch, part) -> None:
    append = KVCache.append

    def partly(cache: KVCache, frame: KVCache) -> KVCache:
        stale = append(cache, cache)  # what an earlier frame left, in the newest frame's place
        if part == "velocity_sums":
            kept: Any = stale.velocity_sums[:, : cache.capacity + 1]
        else:
            count = getattr(cache, part)[0].shape[-2] + 1
            kept = tuple(x[..., :count, :] for x in getattr(stale, part))
        return append(cache, frame)._replace(**{part: kept})

    monkeypatch.setattr(KVCache, "append", partly)
    assert not check_agreement(with_semantics(tiny, "rolling"), "rolling", quick=True)["passed"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_far_off(value) -> None:
    latents = torch.ones(2, 3)
    assert relative_distance(latents * value, latents) >= torch.finfo(torch.float32).max


def test_the_rollouts_outlive_two_windows_and_one_begins_anew(tiny) -> None:
    model = with_semantics(tiny, "rolling")
    ages = [moment.noise.frames for _, moment in rollout_moments(model, "test")]
    assert len(ages) == steps_compared(model.window) == 11
    assert ages[0] == (1, 2, 3)
    assert ages[4] == (5, 6, 7)
    assert ages[5] == (6, 1, 8)
    assert ages[-1] == (11, 6, 13)


def test_half_precision_may_round_as_the_baseline_does_and_not_worse(tiny) -> None:
    half = with_semantics(tiny.with_dtype("bfloat16"), "rolling")
    reference = half.with_dtype("float32")
    for _, moment in islice(rollout_moments(half, "test"), 2, None, 4):
        exact = baseline_latents(reference, moment)
        found = half.step(moment.state, moment.actions, moment.noise).latents[:, -1]
        naive = relative_distance(baseline_latents(half, moment), exact)
        assert TOLERANCE < relative_distance(found, exact) < 1.5 * naive
