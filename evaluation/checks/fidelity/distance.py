"""How far what one sampler imagines is from what the baseline imagines, with 95 % intervals.

The unit is the rollout: frames of one rollout are averaged first, and intervals count rollouts.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from v2w_gym.evaluation.checks.fidelity.replay import Replay
from v2w_gym.evaluation.compare.statistics import CONFIDENCE, Array, Estimate

Frames: TypeAlias = NDArray[np.uint8]
EQUAL = 100.0
"""PSNR of frames without a difference, in dB; one grey level in one value of 64 x 64 x 3 is 89."""


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


def measure_distance(found: Replay, baseline: Replay) -> Distance:
    """Compare what two samplers imagined of the same rollouts."""
    errors = latent_error(found.latents, baseline.latents)
    squares = pixel_error(found.frames[:, 1:], baseline.frames[:, 1:])
    return Distance(
        latent_error={t + 1: mean_estimate(error) for t, error in enumerate(errors.T)},
        psnr={t + 1: mean_estimate(to_psnr(square)) for t, square in enumerate(squares.T)},
        rollout_psnr=mean_estimate(to_psnr(squares.mean(axis=1))),
    )


def latent_error(found: NDArray[np.float32], baseline: NDArray[np.float32]) -> Array:
    """Return the relative root mean square error of latents (N, T, C, h, w): (N, T)."""
    difference = (found.astype(float) - baseline) ** 2
    size = baseline.astype(float) ** 2
    return np.asarray(np.sqrt(difference.mean((2, 3, 4)) / size.mean((2, 3, 4))))


def pixel_error(found: Frames, reference: Frames) -> Array:
    """Return the mean square error of frames (N, T, H, W, 3) as a share of their range: (N, T)."""
    squares = (
        (mine.astype(np.float32) - other) ** 2 for mine, other in zip(found, reference, strict=True)
    )
    return np.stack([square.mean((1, 2, 3), dtype=float) for square in squares]) / 255**2


def to_psnr(mean_square_error: Array) -> Array:
    """Return the PSNR in dB, at most `EQUAL`."""
    return np.asarray(-10 * np.log10(np.maximum(mean_square_error, 10 ** (-EQUAL / 10))))


def mean_estimate(values: Array) -> Estimate:
    """Return the mean of at least two independent values (N,) with Student's 95 % interval."""
    mean, n = float(values.mean()), len(values)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half)
