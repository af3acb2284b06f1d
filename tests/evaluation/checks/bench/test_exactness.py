"""The gate passes steps that are exact, and nothing else."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from v2w_gym.evaluation.checks.bench import exactness
from v2w_gym.evaluation.checks.bench.exactness import (
    SAMPLE_TOLERANCE,
    TOLERANCE,
    check_agreement,
    check_rounding,
    steps_compared,
)
from v2w_gym.evaluation.checks.bench.models import in_precision, with_semantics
from v2w_gym.world_models.solvers import SOLVERS
from v2w_gym.world_models.vid2world.kv_cache import KVCache
from v2w_gym.world_models.vid2world.model import Vid2World


@pytest.mark.parametrize("name", ["rolling", "window", "pooled"])
def test_exact_steps_pass(tiny, name) -> None:
    found = check_agreement(with_semantics(tiny, name), name, exact=True, every=True)
    assert found.passed
    assert 0 < found.relative_error <= TOLERANCE
    assert 0 < found.sample_error <= SAMPLE_TOLERANCE


def test_pooled_norms_with_a_cache_fail(tiny) -> None:
    model = with_semantics(tiny, "frozen")
    found = check_agreement(model, "frozen", exact=True, every=False)
    assert not found.passed
    assert found.relative_error > 100 * TOLERANCE
    measured = check_agreement(model, "frozen", exact=False, every=False)
    assert measured == replace(found, exact=False, passed=True)


def test_a_cache_that_evicts_too_late_fails(tiny, monkeypatch) -> None:
    longer = with_semantics(tiny, "rolling").with_window(8, 1)
    draw_next = exactness.draw_next
    monkeypatch.setattr(
        exactness, "draw_next", lambda model, h, noise, reach: draw_next(model, h, noise, 4)
    )
    found = check_agreement(longer, "rolling", exact=True, every=False)
    assert found.relative_error > 100 * TOLERANCE
    assert not found.passed


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
    model = with_semantics(tiny, "rolling")
    assert not check_agreement(model, "rolling", exact=True, every=False).passed


def test_what_is_not_finite_fails(tiny, monkeypatch) -> None:
    ours = exactness._ours
    monkeypatch.setattr(exactness, "_ours", lambda *args: ours(*args) * torch.nan)
    model = with_semantics(tiny, "rolling")
    found = check_agreement(model, "rolling", exact=True, every=False)
    assert not found.passed
    assert found.relative_error == pytest.approx(torch.finfo(torch.float32).max)


def test_the_rollouts_outlive_two_windows_and_one_begins_anew(tiny) -> None:
    model = with_semantics(tiny, "rolling")
    ages = [moment.noise.frames for _, moment in exactness._moments(model, "test")]
    assert len(ages) == steps_compared(model.window) == 11
    assert ages[0] == (1, 2, 3)
    assert ages[4] == (5, 6, 7)
    assert ages[5] == (6, 1, 8)
    assert ages[-1] == (11, 6, 13)


def test_half_precision_may_round_as_naive_steps_do(tiny) -> None:
    half, rounded = in_halves(tiny)
    found = check_rounding(half, rounded, "rolling")
    assert found.passed
    assert TOLERANCE < found.error < 1.5 * found.naive_error


def test_half_precision_may_not_round_worse(tiny, monkeypatch) -> None:
    ours = exactness._ours
    monkeypatch.setattr(exactness, "_ours", lambda *args: 1.1 * ours(*args))
    assert not check_rounding(*in_halves(tiny), "rolling").passed


def in_halves(model: Vid2World) -> tuple[Vid2World, Vid2World]:
    """Return a model in half precision, and one in single precision with the same weights."""
    half = in_precision(model, torch.bfloat16)
    return with_semantics(half, "rolling"), with_semantics(
        in_precision(half, torch.float32), "rolling"
    )


def test_the_solver_that_asks_for_velocities_goes_again(tiny) -> None:
    check_agreement(with_semantics(tiny, "rolling"), "rolling", exact=True, every=False)
    assert exactness.PROBE not in SOLVERS
