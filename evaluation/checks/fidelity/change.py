"""How far what one sampler does is from what the baseline does, with 95 % intervals.

The unit is the rollout: frames of one rollout are averaged first, and intervals count rollouts.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from v2w_gym.evaluation.checks.fidelity.imagined import Imagined
from v2w_gym.evaluation.compare.statistics import (
    Array,
    Estimate,
    mean_estimate,
    paired_difference,
    sign_test,
    wilson,
)

Frames: TypeAlias = NDArray[np.uint8]
EQUAL = 100.0
"""PSNR of frames without a difference, in dB; one grey level in one value of 64 x 64 x 3 is 89."""
ALL = "all policies"
SAME_ROLLOUT = ["policy", "task", "start", "seed"]


@dataclass(frozen=True)
class Distance:
    """How far N rollouts are from those of the baseline.

    Attributes:
        latent_error: Frames since the start -> mean over rollouts of the root mean square
            difference of that frame's latent, as a share of the baseline latent's own root mean
            square.
        psnr: Frames since the start -> mean over rollouts of the PSNR of that frame, in dB.
        rollout_psnr: The same of whole rollouts, from the mean square error of all their frames.
    """

    latent_error: dict[int, Estimate]
    psnr: dict[int, Estimate]
    rollout_psnr: Estimate


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


def measure_distance(found: Imagined, baseline: Imagined) -> Distance:
    """Compare what two samplers imagined of the same rollouts."""
    errors = latent_error(found.latents, baseline.latents)
    squares = pixel_error(found.frames, baseline.frames)
    return Distance(
        latent_error={t + 1: mean_estimate(error) for t, error in enumerate(errors.T)},
        psnr={t + 1: mean_estimate(to_psnr(square)) for t, square in enumerate(squares.T)},
        rollout_psnr=mean_estimate(to_psnr(squares.mean(axis=1))),
    )


def compare_with_recording(
    found: Frames, baseline: Frames, recorded: Frames
) -> tuple[Estimate, Estimate]:
    """Return the PSNR of whole rollouts against the recording, and its gain over the baseline's."""
    ours, theirs = (to_psnr(pixel_error(f, recorded).mean(axis=1)) for f in (found, baseline))
    return mean_estimate(ours), mean_estimate(ours - theirs)


def latent_error(found: NDArray[np.float32], baseline: NDArray[np.float32]) -> Array:
    """Return the relative root mean square error of latents (N, T, C, h, w): (N, T)."""
    difference = (found.astype(float) - baseline) ** 2
    size = baseline.astype(float) ** 2
    return np.asarray(np.sqrt(difference.mean((2, 3, 4)) / size.mean((2, 3, 4))))


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


def compare_success(found: pd.DataFrame, baseline: pd.DataFrame) -> tuple[SuccessChange, ...]:
    """Pair two runs of `run_rollouts`; the last change is of all policies.

    Policies are what was chosen, starts are the sample. Pairs of all policies count as independent,
    though policies share starts: if flips come from the start alone, that interval is too narrow.
    """
    pairs = found.merge(baseline, on=SAME_ROLLOUT, suffixes=("", "_baseline"))
    groups = [(str(policy), group) for policy, group in pairs.groupby("policy")]
    return tuple(_change(policy, group) for policy, group in [*groups, (ALL, pairs)])


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
