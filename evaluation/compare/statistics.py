"""Statistics that compare simulated success rates with real ones, and their uncertainty.

A summary takes `real` and `sim` of shape (..., K), the success rates of the same K policies. It
reduces the last axis, so one function serves the observed table and thousands of posterior draws.
A summary that is undefined for its input is NaN.

In the comments below, x_i is the real and y_i the simulated success rate of policy i.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
CONFIDENCE = 0.95
NORMAL_QUANTILE = float(stats.norm.ppf((1 + CONFIDENCE) / 2))


class Summary(Protocol):
    """A number, or one per leading index, that compares K simulated rates with K real ones."""

    def __call__(self, *, real: ArrayLike, sim: ArrayLike) -> Array:
        """Return shape (...) for rates of shape (..., K)."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; all three are NaN if the number is undefined."""

    value: float
    low: float
    high: float

    @property
    def defined(self) -> bool:
        """Whether the number is defined."""
        return not math.isnan(self.value)


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return the 95 % score interval of a success rate; (0, 1) for n = 0.

    `successes` may be fractional, because a start with several attempts counts with their mean.

    Raises:
        ValueError: Not 0 <= successes <= n.

    Source: Wilson 1927, without continuity correction.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, found successes = {successes}, n = {n}")
    if n == 0:
        return 0.0, 1.0
    # The interval holds all p with |rate - p| <= z sqrt(p (1 - p) / n). Its ends are the roots of a
    # quadratic equation in p:
    #   (rate + z^2 / 2n  +-  z sqrt(rate (1 - rate) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    rate, z2 = successes / n, NORMAL_QUANTILE**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_QUANTILE * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def sample_rates(
    successes: ArrayLike, n: ArrayLike, draws: int, generator: np.random.Generator
) -> Array:
    """Draw true success rates (draws, ...) from the posterior under Jeffreys' prior.

    Source: Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion".
    """
    successes, n = np.asarray(successes, float), np.asarray(n, float)
    shape = (draws, *successes.shape)
    # The prior is Beta(1/2, 1/2); s successes in n starts make it Beta(s + 1/2, n - s + 1/2).
    return np.asarray(generator.beta(successes + 0.5, n - successes + 0.5, shape))


def pearson(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the linear correlation in [-1, 1]; NaN if either side is constant.

    r = sum_i (x_i - mean x) (y_i - mean y) / sqrt(sum_i (x_i - mean x)^2 sum_i (y_i - mean y)^2)
    """
    real, sim = _centred(real), _centred(sim)
    with np.errstate(invalid="ignore"):
        r = (real * sim).sum(-1) / np.sqrt((real**2).sum(-1) * (sim**2).sum(-1))
    return np.asarray(np.clip(r, -1, 1))  # rounding may exceed the range


def spearman(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the correlation of the ranks, with mean ranks for ties; NaN if a side is constant."""
    return pearson(real=stats.rankdata(real, axis=-1), sim=stats.rankdata(sim, axis=-1))


def kendall(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return Kendall's tau-b in [-1, 1], the balance of concordant and discordant pairs.

    tau = sum_ij s_ij t_ij / sqrt(sum_ij s_ij^2 sum_ij t_ij^2), where s_ij and t_ij are the signs of
    x_i - x_j and y_i - y_j. Tied pairs count in neither sum. NaN if either side is constant.
    """
    real, sim = np.sign(_gaps(real)), np.sign(_gaps(sim))
    with np.errstate(invalid="ignore"):
        tau = (real * sim).sum((-2, -1)) / np.sqrt((real**2).sum((-2, -1)) * (sim**2).sum((-2, -1)))
    return np.asarray(tau)


def mmrv(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the mean maximum rank violation in [0, 1], exactly as SIMPLER's code computes it.

    MMRV = 1/K sum_i max_j |x_i - x_j| [(y_i > y_j) differs from (x_i > x_j)]

    The comparisons are strict, so a tie on one side counts for one policy of the pair only. Gaps
    are real ones. Swapping the arguments changes the result, so both are keyword-only.

    Source: Li et al. 2024, "Evaluating Real-World Robot Manipulation Policies in Simulation"
    (SIMPLER), section III-B.
    """
    real_gap, sim_gap = _gaps(real), _gaps(sim)
    # Rank violation of each pair: [i, j] is True where only one side puts i above j.
    violated = (sim_gap > 0) != (real_gap > 0)
    return np.asarray((np.abs(real_gap) * violated).max(-1).mean(-1))


def mmrv_ties(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the mean maximum rank violation with simulated ties broken by a fair coin.

    For both policies, a pair in the wrong order costs its real gap, and a pair that is tied in
    simulation costs half of it. Without ties this equals `mmrv`.
    """
    real_gap, sim_gap = _gaps(real), _gaps(sim)
    # 0 for the same order, 1/2 for a tie on one side, 1 for the opposite order.
    violation = np.abs(np.sign(sim_gap) - np.sign(real_gap)) / 2
    return np.asarray((np.abs(real_gap) * violation).max(-1).mean(-1))


def mean_bias(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the mean of y_i - x_i; positive if the world model overestimates."""
    return np.asarray((np.asarray(sim, float) - np.asarray(real, float)).mean(-1))


def mean_absolute_error(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the mean of |y_i - x_i|."""
    return np.asarray(np.abs(np.asarray(sim, float) - np.asarray(real, float)).mean(-1))


def slope(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the least-squares slope of simulated on real; below 1, differences shrink.

    slope = sum_i (x_i - mean x) (y_i - mean y) / sum_i (x_i - mean x)^2

    NaN if the real rates are all the same. Noise in the real rates alone also pulls it below 1.
    """
    real, sim = _centred(real), _centred(sim)
    with np.errstate(invalid="ignore"):
        return np.asarray((real * sim).sum(-1) / (real**2).sum(-1))


def top1(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the probability that the best policy in simulation is a best policy in reality.

    Simulated ties are broken at random, so the result is 0 or 1 without ties.
    """
    real = np.asarray(real, float)
    return _mean_of_chosen(real == real.max(-1, keepdims=True), sim)


def regret(*, real: ArrayLike, sim: ArrayLike) -> Array:
    """Return the real success rate that is lost by choosing the best policy in simulation."""
    real = np.asarray(real, float)
    return np.asarray(real.max(-1) - _mean_of_chosen(real, sim))


def fisher_interval(r: float, k: int) -> tuple[float, float]:
    """Return the 95 % interval of a correlation, with the k policies as a sample of all policies.

    It covers the choice of policies and ignores the noise in each rate. NaN for fewer than four
    policies, for undefined r, and for |r| = 1, which would give a width of zero.
    """
    if k < 4 or math.isnan(r) or math.isclose(abs(r), 1, rel_tol=1e-12):
        return math.nan, math.nan
    # atanh(r) is nearly normal with standard deviation 1 / sqrt(k - 3).  Source: Fisher 1921.
    centre, half = math.atanh(r), NORMAL_QUANTILE / math.sqrt(k - 3)
    return math.tanh(centre - half), math.tanh(centre + half)


def leave_one_out(summary: Summary, *, real: ArrayLike, sim: ArrayLike) -> tuple[float, float]:
    """Return the smallest and largest `summary` (K,) when each policy in turn is left out.

    NaN with fewer than four policies, or if the summary is undefined without one of them.
    """
    real, sim = np.asarray(real, float), np.asarray(sim, float)
    if real.shape[-1] < 4:
        return math.nan, math.nan
    without = [
        float(summary(real=np.delete(real, i, -1), sim=np.delete(sim, i, -1)))
        for i in range(real.shape[-1])
    ]
    return float(np.min(without)), float(np.max(without))


def chance_of_perfect_order(k: int) -> float:
    """Return 1 / k!, the probability that a random order of k policies is the true one.

    No permutation test of a ranking over k policies can give a smaller p value.
    """
    return 1 / math.factorial(k)


def sign_test(plus: int, minus: int) -> float:
    """Return the exact two-sided p value for `plus` pairs against `minus` pairs that differ.

    With one binary outcome per side and pair, this is the exact McNemar test. 1 if no pair differs.
    """
    # Under the null hypothesis, a pair that differs has either sign with probability 1/2.
    if plus + minus == 0:
        return 1.0
    return float(stats.binomtest(plus, plus + minus).pvalue)


def paired_difference(both: int, gained: int, lost: int, neither: int) -> Estimate:
    """Return the difference of two success rates over the same n rollouts; NaN for n = 0.

    The interval has a positive width even if no rollout differs, and stays within [-1, 1].

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", method 10.
    """
    n = both + gained + lost + neither
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    first, second = (both + gained) / n, (both + lost) / n
    (low1, high1), (low2, high2) = wilson(both + gained, n), wilson(both + lost, n)
    # phi = (both neither - gained lost) / sqrt(margins), the correlation of the pairs, with a
    # continuity correction of n / 2 where the numerator is positive.
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    product = both * neither - gained * lost
    corrected = max(product - n / 2, 0) if product > 0 else product
    phi = corrected / math.sqrt(margins) if margins else 0.0
    down = _hypotenuse(first - low1, high2 - second, phi)
    up = _hypotenuse(high1 - first, second - low2, phi)
    difference = (gained - lost) / n
    return Estimate(difference, difference - down, difference + up)


def mean_estimate(values: Array) -> Estimate:
    """Return the mean of at least two independent values (N,) with Student's 95 % interval."""
    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values adjusted for multiple tests (Holm 1979), in the same order."""
    # Multiply the smallest of m p values by m, the next by m - 1, and so on. Then take the running
    # maximum, and clip to 1.
    order = np.argsort(p_values)
    adjusted = np.asarray(p_values, float)[order] * np.arange(len(p_values), 0, -1)
    result = np.empty(len(p_values))
    result[order] = np.minimum(np.maximum.accumulate(adjusted), 1)
    return [float(p) for p in result]


def estimate(value: float, draws: Array) -> Estimate:
    """Return `value` with the middle 95 % of its posterior `draws`, widened to contain `value`.

    The widening matters at the edge of a range. For example, an observed violation of 0 lies below
    every draw.
    """
    if math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan)
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, min(value, float(low)), max(value, float(high)))


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a**2 - 2 * correlation * a * b + b**2))


def _centred(rates: ArrayLike) -> Array:
    """Subtract the mean; exactly zero if all rates are equal, without rounding errors."""
    rates = np.asarray(rates, float)
    constant = np.ptp(rates, axis=-1, keepdims=True) == 0
    return np.asarray(np.where(constant, 0.0, rates - rates.mean(-1, keepdims=True)))


def _gaps(rates: ArrayLike) -> Array:
    """Return (..., K, K): how far policy i lies above policy j."""
    values: Array = np.asarray(rates, float)
    return np.asarray(values[..., :, None] - values[..., None, :])


def _mean_of_chosen(values: ArrayLike, sim: ArrayLike) -> Array:
    """Average `values` over the policies that are best in simulation."""
    sim = np.asarray(sim, float)
    chosen = sim == sim.max(-1, keepdims=True)
    return np.asarray((np.asarray(values, float) * chosen).sum(-1) / chosen.sum(-1))
