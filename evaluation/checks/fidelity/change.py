"""Differences between a sampler's rollouts and the baseline's, with 95 % intervals.

The unit is the rollout: frames of one rollout are averaged first, and intervals count rollouts.
"""

import math
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from v2w_gym.evaluation.compare.statistics import (
    Array,
    Estimate,
    mean_estimate,
    paired_difference,
    sign_test,
    wilson,
)

Frames: TypeAlias = NDArray[np.uint8]
Row: TypeAlias = dict[str, Any]
EQUAL = 100.0
"""PSNR of frames without a difference, in dB; one grey level in one value of 64 x 64 x 3 is 89."""
ALL = "all policies"
SAME_ROLLOUT = ["policy", "task", "start", "seed"]


def pixel_error(found: Frames, reference: Frames) -> Array:
    """Return the mean square error of frames (N, T + 1, H, W, 3) as a share of their range: (N, T).

    The first frame is known, and left out.
    """
    pairs = zip(found[:, 1:], reference[:, 1:], strict=True)
    squares = ((mine.astype(np.float32) - other) ** 2 for mine, other in pairs)
    return np.stack([square.mean((1, 2, 3), dtype=float) for square in squares]) / 255**2


def to_psnr(mean_square_error: Array) -> Array:
    """Return the PSNR in dB, at most `EQUAL`."""
    return np.asarray(-10 * np.log10(np.maximum(mean_square_error, 10 ** (-EQUAL / 10))))


def psnr_by_frame(found: Frames, baseline: Frames) -> dict[int, Estimate]:
    """Return the mean PSNR over rollouts of each frame, by its number since the start."""
    errors = pixel_error(found, baseline).T
    return {frame: mean_estimate(to_psnr(error)) for frame, error in enumerate(errors, start=1)}


def compare_frames(found: Frames, baseline: Frames, recorded: Frames | None) -> Row:
    """Return the PSNR of whole rollouts, from the mean square error of all their frames, in dB.

    The first is against the baseline (None for the baseline itself). With a recording, a second is
    against that, and `change` is its mean gain over the baseline, rollout by rollout.
    """

    def psnr(one: Frames, other: Frames) -> Array:
        return to_psnr(pixel_error(one, other).mean(axis=1))

    row = {"PSNR": None if found is baseline else mean_estimate(psnr(found, baseline))}
    if recorded is not None:
        ours, theirs = psnr(found, recorded), psnr(baseline, recorded)
        row["PSNR against the recording"] = mean_estimate(ours)
        row["change"] = mean_estimate(ours - theirs)
    return row


def compare_success(found: pd.DataFrame, baseline: pd.DataFrame) -> list[Row]:
    """Pair two runs of `run_rollouts`: a row for each policy, and one for all of them.

    The policies are fixed, and the starts are the sample. In the row of all policies, pairs count
    as independent, although policies share starts. If only the start decides, its interval is too
    narrow.

    Returns:
        Success rates with Wilson's intervals, their `change` with Newcombe's interval for pairs,
        rollouts that succeed under one sampler only (`gained` and `lost`), and `p` of the exact
        McNemar test that neither is more frequent. A rollout on which the judge `abstained`
        on either side counts nowhere else.
    """
    pairs = found.merge(baseline, on=SAME_ROLLOUT, suffixes=("", "_baseline"))
    groups = [*pairs.groupby("policy"), (ALL, pairs)]
    return [_change(str(policy), group) for policy, group in groups]


def _change(policy: str, pairs: pd.DataFrame) -> Row:
    judged = pairs.dropna(subset=["success", "success_baseline"])
    after, before = (judged[name].to_numpy(bool) for name in ("success", "success_baseline"))
    both, n = int((after & before).sum()), len(judged)
    gained, lost = int(after.sum()) - both, int(before.sum()) - both
    return {
        "policy": policy,
        "n": n,
        "abstained": len(pairs) - n,
        "baseline": _rate(both + lost, n),
        "success": _rate(both + gained, n),
        "change": paired_difference(both, gained, lost, n - both - gained - lost),
        "gained": gained,
        "lost": lost,
        "p": sign_test(gained, lost),
    }


def _rate(successes: int, n: int) -> Estimate:
    return Estimate(successes / n if n else math.nan, *wilson(successes, n))
