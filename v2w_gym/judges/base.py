"""Judges decide from camera frames alone whether a policy solved its task.

An environment calls `success` on the newest frame after every step; `v2w rank` calls `verdicts` on
whole rollouts. Judges live in `v2w_gym`, because environments call them, and `v2w_gym.evaluation`
imports environments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", np.bool_, np.float64)

SOLVED_FRAMES = 2
"""Consecutive frames in which the task must be solved for the attempt to be a success."""


class StepJudge(Protocol):
    """The part of a judge that an environment calls."""

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        """Return whether the task is solved in the last frame of each video: (B,).

        Args:
            frames: (B, T, H, W, 3) uint8, from the first context frame to now.
            task: Name of the task that all B videos attempt.
        """
        ...


@dataclass(frozen=True)
class Verdicts:
    """A judge's verdicts on B rollouts.

    Attributes:
        success: (B,) whether the task was solved in `SOLVED_FRAMES` consecutive frames, and not in
            the first one.
        abstained: (B,) whether the judge abstains: there is no success, but the judge could not
            read some frames, or the task was solved before the policy acted.
        score: (B,) confidence in [0, 1] that the task was solved in `SOLVED_FRAMES` consecutive
            frames.
    """

    success: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    score: NDArray[np.float64]


class Judge(StepJudge, Protocol):
    """A judge of steps and of whole rollouts.

    Attributes:
        name: Identity of the judge, which every row of a run records. Judges with different weights
            have different names.
        card: JSON values that a report shows: kind, robot, measured accuracy.
    """

    name: str
    card: Mapping[str, Any]

    def verdicts(self, frames: NDArray[np.uint8], task: str) -> Verdicts:
        """Judge B rollouts (B, T, H, W, 3).

        Raises:
            ValueError: The judge does not know the task, or the frames' type or size is wrong.
        """
        ...


@dataclass(frozen=True)
class Quantity:
    """A quantity that a judge measures in frames and that episodes record as ground truth.

    Attributes:
        name: Its key in `Episode.state`.
        unit: Unit in reports.
        scale: Factor from the recorded unit to `unit`, such as 100 cm per metre.
    """

    name: str
    unit: str
    scale: float


@runtime_checkable
class MeasuringJudge(Judge, Protocol):
    """A judge that decides from one quantity, which the validation gate checks too."""

    quantity: Quantity

    def reading(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Measure every frame of B rollouts (B, T, H, W, 3), in the recorded unit: (B, T)."""
        ...


def checked_verdicts(judge: Judge, frames: NDArray[np.uint8], task: str) -> Verdicts:
    """Return a judge's verdicts on B rollouts (B, T, H, W, 3), checked.

    Raises:
        ValueError: Frames or a task that the judge does not know, or verdicts without one bool
            `success`, one bool `abstained` and one `score` in [0, 1] per rollout.
    """
    verdicts = judge.verdicts(frames, task)
    for name, kind in (("success", np.bool_), ("abstained", np.bool_), ("score", np.floating)):
        _check_values(judge.name, name, getattr(verdicts, name, None), kind, len(frames))
    outside = ~((verdicts.score >= 0) & (verdicts.score <= 1))  # true for NaN as well
    if outside.any():
        raise ValueError(
            f"expected scores from 0 to 1 from judge {judge.name!r}, found "
            f"{verdicts.score[outside][0]}"
        )
    return verdicts


def _check_values(judge: str, name: str, found: object, kind: type, count: int) -> None:
    what = type(found).__name__
    if isinstance(found, np.ndarray):
        if found.shape == (count,) and np.issubdtype(found.dtype, kind):
            return
        what = f"{found.dtype} {found.shape}"
    raise ValueError(
        f"expected `{name}` of the verdicts of judge {judge!r} to be an array of {kind.__name__} "
        f"with shape ({count},), one value per rollout, found {what}"
    )


def decide(
    solved: NDArray[np.bool_], readable: NDArray[np.bool_], confidence: NDArray[np.float64]
) -> Verdicts:
    """Turn a judge's decisions on single frames into verdicts on B rollouts.

    Args:
        solved: (B, T) whether the task is solved in a frame; False where it is not readable.
        readable: (B, T) whether the judge can read the frame.
        confidence: (B, T) confidence in [0, 1] that the task is solved.
    """
    # A task that was solved before the first action is no success of the policy.
    success = np.asarray(_consecutive(solved).any(axis=1) & ~solved[:, 0])
    # The best possible case: the task was solved in every frame that is not readable.
    possible = np.asarray(_consecutive(solved | ~readable).any(axis=1))
    return Verdicts(
        success=success,
        abstained=possible & ~success,
        score=_consecutive(confidence).max(axis=1, initial=0.0),
    )


def _consecutive(values: NDArray[Value]) -> NDArray[Value]:
    """Return the minimum over every `SOLVED_FRAMES` consecutive frames: (B, T) to (B, T - 1)."""
    windows = max(values.shape[1] - SOLVED_FRAMES + 1, 0)
    pairs = np.stack([values[:, i : i + windows] for i in range(SOLVED_FRAMES)])
    lowest: NDArray[Value] = pairs.min(axis=0)
    return lowest
