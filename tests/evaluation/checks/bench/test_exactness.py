"""The check passes steps that are exact, and nothing else."""

from typing import Any

import pytest
import torch

from v2w_gym.evaluation.checks.bench import exactness
from v2w_gym.evaluation.checks.bench.exactness import (
    SAMPLE_TOLERANCE,
    TOLERANCE,
    check_agreement,
    check_exactness,
    check_rounding,
    steps_compared,
)
from v2w_gym.evaluation.checks.bench.models import in_precision, with_semantics
from v2w_gym.world_models.vid2world.kv_cache import KVCache
from v2w_gym.world_models.vid2world.model import Vid2World


def agreement(model: Vid2World, semantics: str = "rolling", **settings):
    """Check steps of a model that should be exact, where something changes."""
    return check_agreement(model, semantics, **{"exact": True, "every": False, **settings})


@pytest.mark.parametrize("name", ["rolling", "window", "pooled"])
def test_exact_steps_pass(tiny, name) -> None:
    found = agreement(with_semantics(tiny, name), name, every=True)
    assert found["passed"]
    assert 0 < found["relative_error"] <= TOLERANCE
    assert 0 < found["sample_error"] <= SAMPLE_TOLERANCE


def test_pooled_norms_with_a_cache_fail(tiny) -> None:
    model = with_semantics(tiny, "frozen")
    found = agreement(model, "frozen")
    assert not found["passed"]
    assert found["relative_error"] > 100 * TOLERANCE
    measured = agreement(model, "frozen", exact=False)
    assert measured == found | {"exact": False, "passed": True}


def test_a_cache_that_evicts_too_late_fails(tiny, monkeypatch) -> None:
    longer = with_semantics(tiny, "rolling").with_window(8, 1)
    naive_next = exactness.naive_next
    monkeypatch.setattr(exactness, "naive_next", lambda *given: naive_next(*given[:-1], 4))
    found = agreement(longer)
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
    assert not agreement(with_semantics(tiny, "rolling"))["passed"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_far_off(value) -> None:
    latents = torch.ones(2, 3)
    assert exactness._distance(latents * value, latents) >= torch.finfo(torch.float32).max


def test_the_rollouts_outlive_two_windows_and_one_begins_anew(tiny) -> None:
    model = with_semantics(tiny, "rolling")
    ages = [moment.noise.frames for _, moment in exactness._moments(model, "test")]
    assert len(ages) == steps_compared(model.window) == 11
    assert ages[0] == (1, 2, 3)
    assert ages[4] == (5, 6, 7)
    assert ages[5] == (6, 1, 8)
    assert ages[-1] == (11, 6, 13)


def test_half_precision_may_round_as_the_baseline_does_and_not_worse(tiny, monkeypatch) -> None:
    half = in_precision(tiny, torch.bfloat16)
    reference = in_precision(half, torch.float32)
    found = check_exactness(reference, ["rolling"], torch.bfloat16, every=False)
    (row,) = found["roundings"]
    assert found["passed"] and row["passed"]
    assert TOLERANCE < row["error"] < 1.5 * row["naive_error"]
    latents = exactness._latents
    monkeypatch.setattr(exactness, "_latents", lambda *given: 1.1 * latents(*given))
    models = with_semantics(half, "rolling"), with_semantics(reference, "rolling")
    assert not check_rounding(*models, "rolling")["passed"]


def test_all_passes_only_if_each_does(tiny, monkeypatch) -> None:
    fine = {"passed": True, "exact": True, "relative_error": 1e-6, "sample_error": 1e-6}
    monkeypatch.setattr(exactness, "check_agreement", lambda *given, **settings: fine)
    monkeypatch.setattr(exactness, "check_rounding", lambda *given: {"passed": False})
    found = check_exactness(tiny, ["rolling"], torch.bfloat16, every=False)
    assert (found["passed"], found["max_relative_error"]) == (False, 1e-6)
    assert check_exactness(tiny, ["rolling"], torch.float32, every=False)["passed"]
