"""Every summary against hand-worked numbers, published tables or an independent implementation."""

import math

import numpy as np
import pytest
from scipy import stats

from v2w_gym.evaluation.compare import statistics as st

# Close drawer: Begin, RT-1-X, 15 %, Converged (SIMPLER's metrics.py; Vid2World's project page).
REAL_4 = [0.000, 0.741, 0.889, 0.926]
VISUAL_MATCHING_4 = [0.278, 0.891, 0.667, 0.861]
REAL_3 = [0.000, 0.889, 0.926]
VID2WORLD_3 = [0.260, 0.820, 0.880]


@pytest.mark.parametrize(("k", "n"), [(0, 10), (5, 10), (9, 10), (18, 20), (25, 50), (20, 20)])
def test_wilson_is_scipys(k: int, n: int) -> None:
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert st.wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_published_rates() -> None:
    assert st.wilson(13, 50) == pytest.approx((0.16, 0.40), abs=0.005)
    assert st.wilson(0, 27) == pytest.approx((0, 0.125), abs=0.0005)


def test_wilson_knows_nothing_without_attempts() -> None:
    assert st.wilson(0, 0) == (0, 1)


def test_wilson_refuses_more_successes_than_attempts() -> None:
    with pytest.raises(ValueError, match="found successes = 3, n = 2"):
        st.wilson(3, 2)


def test_published_close_drawer_numbers() -> None:
    assert st.pearson(real=REAL_3, sim=VID2WORLD_3) == pytest.approx(0.9986, abs=5e-5)
    assert st.mmrv(real=REAL_3, sim=VID2WORLD_3) == 0
    assert st.mean_absolute_error(real=REAL_3, sim=VID2WORLD_3) == pytest.approx(0.125, abs=5e-4)
    assert st.pearson(real=REAL_4, sim=VISUAL_MATCHING_4) == pytest.approx(0.891, abs=5e-4)
    assert st.mmrv(real=REAL_4, sim=VISUAL_MATCHING_4) == pytest.approx(0.130, abs=5e-4)
    assert st.mean_absolute_error(real=REAL_4, sim=VISUAL_MATCHING_4) == pytest.approx(
        0.179, abs=5e-4
    )


def test_swapping_real_and_simulated_changes_the_rank_violation() -> None:
    real = [0.017, 0.583, 0.633, 0.450, 0.733, 0.350]  # SIMPLER, move near
    sim = [0.050, 0.354, 0.442, 0.317, 0.779, 0.042]
    assert st.mmrv(real=real, sim=sim) == pytest.approx(0.111, abs=5e-4)
    assert st.mmrv(real=sim, sim=real) == pytest.approx(0.003, abs=5e-4)


def test_a_simulated_tie_is_one_sided_in_simpler_and_shared_when_aware_of_ties() -> None:
    real, sim = [0.2, 0.5], [0.4, 0.4]
    assert st.mmrv(real=real, sim=sim) == pytest.approx(
        0.15
    )  # only the better one is charged: (0 + .3) / 2
    assert st.mmrv_ties(real=real, sim=sim) == pytest.approx(0.15)  # half of .3, for both
    real, sim = [0.0, 0.3, 0.6], [0.4, 0.4, 0.4]
    assert st.mmrv(real=real, sim=sim) == pytest.approx((0 + 0.3 + 0.6) / 3)
    assert st.mmrv_ties(real=real, sim=sim) == pytest.approx((0.3 + 0.15 + 0.3) / 3)


def test_rank_violations_agree_without_ties() -> None:
    real, sim = np.random.default_rng(0).random((2, 50, 7))
    np.testing.assert_allclose(st.mmrv_ties(real=real, sim=sim), st.mmrv(real=real, sim=sim))


@pytest.mark.parametrize(
    ("ours", "scipys"),
    [(st.pearson, stats.pearsonr), (st.spearman, stats.spearmanr), (st.kendall, stats.kendalltau)],
)
def test_correlations_are_scipys_and_work_on_batches(ours, scipys) -> None:
    real, sim = np.random.default_rng(1).integers(0, 6, (2, 20, 8)) / 5  # with many ties
    expected = [scipys(r, s).statistic for r, s in zip(real, sim, strict=True)]
    np.testing.assert_allclose(ours(real=real, sim=sim), expected, atol=1e-12)


@pytest.mark.parametrize("correlation", [st.pearson, st.spearman, st.kendall])
def test_a_constant_side_has_no_correlation(correlation: st.Summary) -> None:
    assert math.isnan(correlation(real=[0.1, 0.5, 0.9], sim=[0.1, 0.1, 0.1]))
    assert math.isnan(correlation(real=[0.1, 0.1, 0.1], sim=[0.1, 0.5, 0.9]))
    assert math.isnan(correlation(real=[0.5], sim=[0.5]))


def test_bias_and_slope_by_hand() -> None:
    real, sim = [0.0, 0.5, 1.0], [0.25, 0.5, 0.75]
    assert st.mean_bias(real=real, sim=sim) == 0
    assert st.slope(real=real, sim=sim) == pytest.approx(0.5)
    assert st.mean_bias(real=[0.2, 0.4], sim=[0.5, 0.5]) == pytest.approx(0.2)
    assert math.isnan(st.slope(real=[0.5, 0.5], sim=[0.1, 0.9]))


def test_choosing_by_simulation_by_hand() -> None:
    assert st.top1(real=[0.2, 0.9, 0.6], sim=[0.1, 0.5, 0.4]) == 1
    assert st.regret(real=[0.2, 0.9, 0.6], sim=[0.1, 0.4, 0.5]) == pytest.approx(0.3)
    assert st.top1(real=[0.2, 0.9, 0.6], sim=[0.1, 0.5, 0.5]) == 0.5
    assert st.regret(real=[0.2, 0.9, 0.6], sim=[0.1, 0.5, 0.5]) == pytest.approx(0.15)
    assert st.top1(real=[0.2, 0.9, 0.9], sim=[0.1, 0.4, 0.5]) == 1  # either best one is right


def test_fisher_interval_of_published_correlations() -> None:
    assert st.fisher_interval(0.974, 6) == pytest.approx((0.77, 0.997), abs=0.01)
    assert st.fisher_interval(0.988, 4) == pytest.approx((0.53, 0.9998), abs=0.005)
    assert all(math.isnan(bound) for bound in st.fisher_interval(0.9986, 3))
    assert all(math.isnan(bound) for bound in st.fisher_interval(math.nan, 9))
    assert all(math.isnan(bound) for bound in st.fisher_interval(1 - 1e-16, 9))


def test_leave_one_out_finds_the_policy_that_carries_the_correlation() -> None:
    real, sim = [0.0, 0.8, 0.9, 1.0], [0.0, 0.9, 1.0, 0.8]
    low, high = st.leave_one_out(st.pearson, real=real, sim=sim)
    assert low == pytest.approx(
        -0.5
    )  # without the weak policy only (.8, .9, 1) against (.9, 1, .8) is left
    assert high > 0.98
    assert all(math.isnan(b) for b in st.leave_one_out(st.pearson, real=REAL_3, sim=VID2WORLD_3))


def test_chance_of_a_perfect_order() -> None:
    assert st.chance_of_perfect_order(3) == pytest.approx(1 / 6)
    assert st.chance_of_perfect_order(8) == pytest.approx(1 / 40320)


def test_sign_test_by_hand() -> None:
    assert st.sign_test(0, 0) == 1
    assert st.sign_test(5, 0) == pytest.approx(2 / 32)
    assert st.sign_test(1, 5) == pytest.approx(14 / 64)


def test_holm_by_hand() -> None:
    assert st.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert st.holm([0.9, 0.8]) == [1, 1]


def test_posterior_of_a_rate_is_jeffreys() -> None:
    draws = st.sample_rates([0.0, 5.0], [10.0, 10.0], 200_000, np.random.default_rng(0))
    np.testing.assert_allclose(draws.mean(0), [0.5 / 11, 0.5], atol=2e-3)
    assert np.quantile(draws[:, 0], 0.975) == pytest.approx(0.217, abs=0.003)


def test_estimate_always_holds_its_value_and_has_no_interval_without_one() -> None:
    assert st.estimate(0.0, np.array([0.1, 0.2, 0.3])).low == 0
    undefined = st.estimate(math.nan, np.array([0.1, 0.2]))
    assert not undefined.defined
    assert math.isnan(undefined.low)


def test_mean_has_students_interval():
    found = st.mean_estimate(np.array([1.0, 2.0, 3.0]))
    half = 4.3027 / 3**0.5  # quantile of t with 2 degrees of freedom, standard deviation 1
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), rel=1e-4)


def test_interval_of_a_difference_is_newcombes():
    found = st.paired_difference(36, 12, 2, 0)  # in table II of the paper
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize("counts", [(36, 12, 2, 0), (20, 12, 2, 16), (3, 0, 0, 0), (0, 9, 0, 1)])
def test_exchanging_both_sides_mirrors_the_interval(counts):
    both, gained, lost, neither = counts
    one, other = st.paired_difference(*counts), st.paired_difference(both, lost, gained, neither)
    assert (other.value, other.low, other.high) == pytest.approx((-one.value, -one.high, -one.low))
    assert -1 <= one.low <= one.value <= one.high <= 1


def test_agreement_narrows_the_interval():
    agreeing, crossing = st.paired_difference(25, 0, 0, 25), st.paired_difference(0, 25, 25, 0)
    assert agreeing.high - agreeing.low < 0.6 * (crossing.high - crossing.low)


def test_no_difference_still_has_a_width_that_shrinks_with_n():
    few, many = st.paired_difference(5, 0, 0, 0), st.paired_difference(50, 0, 0, 0)
    assert few.value == many.value == 0
    assert few.high > many.high > 0.01


def test_nothing_tried_is_no_difference():
    assert math.isnan(st.paired_difference(0, 0, 0, 0).value)
