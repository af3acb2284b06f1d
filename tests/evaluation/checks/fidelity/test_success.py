"""Paired success rates: a published example, symmetry, and what is left out."""

import math

import pandas as pd
import pytest

from v2w_gym.evaluation.checks.fidelity.success import ALL, compare_success, paired_difference


def rows(policy, outcomes, first=0):
    return pd.DataFrame(
        {
            "policy": policy,
            "task": "open_drawer",
            "start": range(first, first + len(outcomes)),
            "seed": 0,
            "success": pd.Series(outcomes, dtype=object),
        }
    )


def test_interval_of_a_difference_is_newcombes():
    found = paired_difference(36, 12, 2, 0)  # in table II of the paper
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize("counts", [(36, 12, 2, 0), (20, 12, 2, 16), (3, 0, 0, 0), (0, 9, 0, 1)])
def test_exchanging_both_sides_mirrors_the_interval(counts):
    both, gained, lost, neither = counts
    one, other = paired_difference(*counts), paired_difference(both, lost, gained, neither)
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))
    assert -1 <= one.low <= one.value <= one.high <= 1


def test_agreement_narrows_the_interval():
    agreeing, crossing = paired_difference(25, 0, 0, 25), paired_difference(0, 25, 25, 0)
    assert agreeing.high - agreeing.low < 0.6 * (crossing.high - crossing.low)


def test_no_difference_still_has_a_width_that_shrinks_with_n():
    few, many = paired_difference(5, 0, 0, 0), paired_difference(50, 0, 0, 0)
    assert few.value == many.value == 0
    assert few.high > many.high > 0.01


def test_nothing_tried_is_no_difference():
    assert math.isnan(paired_difference(0, 0, 0, 0).value)


def test_rollouts_are_paired_by_policy_and_start():
    baseline = pd.concat([rows("a", [True, True, False, None]), rows("b", [False, False])])
    found = pd.concat([rows("b", [True, False]), rows("a", [False, True, True, True])])
    of_a, of_b, of_all = compare_success(found, baseline)
    assert (of_a.policy, of_b.policy, of_all.policy) == ("a", "b", ALL)
    assert (of_a.n, of_a.abstained, of_a.gained, of_a.lost) == (3, 1, 1, 1)
    assert (of_b.n, of_b.abstained, of_b.gained, of_b.lost) == (2, 0, 1, 0)
    assert (of_all.n, of_all.gained, of_all.lost) == (5, 2, 1)
    assert of_all.baseline.value == pytest.approx(2 / 5)
    assert of_all.success.value == pytest.approx(3 / 5)
    assert of_all.change.value == pytest.approx(1 / 5)
    assert of_all.p_value == 1


def test_a_policy_on_which_the_judge_always_abstains_has_no_rate():
    (of_a, _) = compare_success(rows("a", [None]), rows("a", [True]))
    assert (of_a.n, of_a.abstained) == (0, 1)
    assert math.isnan(of_a.change.value)
