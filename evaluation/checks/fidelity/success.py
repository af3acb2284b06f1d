"""Does a policy succeed as often under one sampler as under the baseline?"""

import math
from dataclasses import dataclass

import pandas as pd

from v2w_gym.evaluation.compare.statistics import Estimate, sign_test, wilson

ALL = "all policies"
SAME_ROLLOUT = ["policy", "task", "start", "seed"]


@dataclass(frozen=True)
class SuccessChange:
    """Success of a policy under a sampler and under the baseline: same starts, same noise.

    Attributes:
        policy: Name of the policy, or `ALL`.
        n: Rollouts that were judged on both sides.
        abstained: Rollouts that the judge could not read on one side; part of nothing else.
        baseline: Success rate under the baseline, with Wilson's interval.
        success: Success rate under this sampler, with Wilson's interval.
        change: `success` minus `baseline`, with Newcombe's interval for pairs.
        gained: Rollouts that succeed under this sampler only.
        lost: Rollouts that succeed under the baseline only.
        p_value: Exact McNemar test that neither is more frequent.
    """

    policy: str
    n: int
    abstained: int
    baseline: Estimate
    success: Estimate
    change: Estimate
    gained: int
    lost: int
    p_value: float


def compare_success(found: pd.DataFrame, baseline: pd.DataFrame) -> tuple[SuccessChange, ...]:
    """Pair two runs of `run_rollouts`; the last change is of all policies.

    Policies are what was chosen, starts are the sample. Pairs of all policies count as independent,
    though policies share starts: if flips come from the start alone, that interval is too narrow.
    """
    pairs = found.merge(baseline, on=SAME_ROLLOUT, suffixes=("", "_baseline"))
    groups = [(str(policy), group) for policy, group in pairs.groupby("policy")]
    return tuple(_change(policy, group) for policy, group in [*groups, (ALL, pairs)])


def paired_difference(both: int, gained: int, lost: int, neither: int) -> Estimate:
    """Return the difference of two success rates seen on the same n rollouts; NaN for none.

    The interval has a width even if nothing differs, and stays within [-1, 1].

    Source: Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data", method 10.
    """
    n = both + gained + lost + neither
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan)
    first, second = (both + gained) / n, (both + lost) / n
    (low1, high1), (low2, high2) = wilson(both + gained, n), wilson(both + lost, n)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    product = both * neither - gained * lost
    corrected = max(product - n / 2, 0) if product > 0 else product
    phi = corrected / math.sqrt(margins) if margins else 0.0
    down = _hypotenuse(first - low1, high2 - second, phi)
    up = _hypotenuse(high1 - first, second - low2, phi)
    difference = (gained - lost) / n
    return Estimate(difference, difference - down, difference + up)


def _hypotenuse(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a**2 - 2 * correlation * a * b + b**2))


def _change(policy: str, pairs: pd.DataFrame) -> SuccessChange:
    judged = pairs.dropna(subset=["success", "success_baseline"])
    after, before = (judged[name].to_numpy(bool) for name in ("success", "success_baseline"))
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    both, n = int((after & before).sum()), len(judged)
    return SuccessChange(
        policy=policy,
        n=n,
        abstained=len(pairs) - n,
        baseline=_rate(int(before.sum()), n),
        success=_rate(int(after.sum()), n),
        change=paired_difference(both, gained, lost, n - both - gained - lost),
        gained=gained,
        lost=lost,
        p_value=sign_test(gained, lost),
    )


def _rate(successes: int, n: int) -> Estimate:
    return Estimate(successes / n if n else math.nan, *wilson(successes, n))
