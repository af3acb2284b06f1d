"""Everything that was found of one world model's samplers."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.evaluation.checks.bench.costs import Cost
from v2w_gym.evaluation.checks.fidelity.distance import (
    Distance,
    mean_estimate,
    measure_distance,
    pixel_error,
    to_psnr,
)
from v2w_gym.evaluation.checks.fidelity.replay import Replay, Variant
from v2w_gym.evaluation.checks.fidelity.success import SuccessChange
from v2w_gym.evaluation.compare.statistics import Estimate


@dataclass(frozen=True)
class Measured:
    """What was found of one sampler.

    Attributes:
        name: What it is called.
        sampler: Its settings.
        model: Fingerprint of the world model with this sampler.
        cost: The work of one frame, once the window is full.
        milliseconds: Median time for one imagined frame, decoding included.
        relative_time: That time as a share of the baseline's; None if another process took it.
        distance: How far its rollouts are from the baseline's; None for the baseline.
        recorded_psnr: PSNR of whole rollouts against what was recorded, in dB; None where nothing
            was.
        recorded_change: How much higher that is than the baseline's, rollout by rollout.
        success: Success in closed loop, for each policy and for all; empty where it was not asked
            for. The baseline is held against itself.
    """

    name: str
    sampler: dict[str, Any]
    model: str
    cost: Cost
    milliseconds: float
    relative_time: float | None
    distance: Distance | None
    recorded_psnr: Estimate | None
    recorded_change: Estimate | None
    success: tuple[SuccessChange, ...]


@dataclass(frozen=True)
class Fidelity:
    """What was found, and on which rollouts.

    Attributes:
        checkpoint: The world model, in words.
        task: Name of the task.
        rollouts: Number of rollouts imagined by every sampler.
        steps: Frames imagined in each.
        recorded: Whether they replay recorded episodes.
        seed: Seed of their noise.
        horizons: After how many frames errors are listed.
        measured: The baseline, the baseline with another seed, then the candidates.
    """

    checkpoint: str
    task: str
    rollouts: int
    steps: int
    recorded: bool
    seed: int
    horizons: tuple[int, ...]
    measured: tuple[Measured, ...]


def measure(
    variant: Variant,
    cost: Cost,
    found: Replay,
    baseline: Replay,
    recorded: NDArray[np.uint8] | None,
    success: tuple[SuccessChange, ...],
) -> Measured:
    """Gather what was found of one sampler.

    Args:
        variant: The sampler.
        cost: The work of one of its frames.
        found: What it imagined.
        baseline: What the baseline imagined; the same object for the baseline.
        recorded: (N, T + 1, H, W, 3) what was recorded of these rollouts, if anything was.
        success: What was found in closed loop.
    """
    recorded_psnr = recorded_change = None
    if recorded is not None:
        ratios, of_baseline = (
            to_psnr(pixel_error(frames[:, 1:], recorded[:, 1:]).mean(axis=1))
            for frames in (found.frames, baseline.frames)
        )
        recorded_psnr, recorded_change = map(mean_estimate, (ratios, ratios - of_baseline))
    together = found.process == baseline.process
    return Measured(
        name=variant.name,
        sampler=asdict(variant.model.cfg.sampler),
        model=variant.model.fingerprint,
        cost=cost,
        milliseconds=1000 * found.seconds,
        relative_time=found.seconds / baseline.seconds if together else None,
        distance=None if found is baseline else measure_distance(found, baseline),
        recorded_psnr=recorded_psnr,
        recorded_change=recorded_change,
        success=success,
    )
