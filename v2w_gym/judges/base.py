"""What a judge is: from camera frames alone, it tells whether a policy solved its task.

An environment asks a judge about the newest frame after every step. `v2w rank` asks it about whole
rollouts. Because environments ask them, judges live here and not in `v2w_gym.evaluation`, which
stands above the environments.
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
    """The part of a judge that an environment asks."""

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        """Return whether the task is solved in the last frame of each video: (B,).

        Args:
            frames: (B, T, H, W, 3) uint8, from the first context frame to now.
            task: Name of the task that all B videos attempt.
        """
        ...


@dataclass(frozen=True)
class Verdicts:
    """What a judge says about B rollouts.

    Attributes:
        success: (B,) whether the task, unsolved in the first frame, was solved in `SOLVED_FRAMES`
            consecutive ones.
        abstained: (B,) whether a failure might be a success: frames could not be read, or the task
            was solved before the policy acted.
        score: (B,) confidence in [0, 1] that the task was solved in `SOLVED_FRAMES` consecutive
            frames.
    """

    success: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    score: NDArray[np.float64]


class Judge(StepJudge, Protocol):
    """A judge of steps and of whole rollouts.

    Attributes:
        name: Identity of the judge, which every row of a run carries; other weights, other name.
        card: JSON values to show in a report: kind, robot, measured accuracy.
    """

    name: str
    card: Mapping[str, Any]

    def verdicts(self, frames: NDArray[np.uint8], task: str) -> Verdicts:
        """Judge B rollouts (B, T, H, W, 3).

        Raises:
            ValueError: A task that this judge does not know, or frames of another type or size.
        """
        ...


@dataclass(frozen=True)
class Quantity:
    """Something that a judge measures in a frame and that recorded episodes know exactly.

    Attributes:
        name: What it is, and its key in `Episode.state`.
        unit: Unit in which people are shown it.
        scale: Units per recorded unit, such as 100 cm per metre.
    """

    name: str
    unit: str
    scale: float


@runtime_checkable
class MeasuringJudge(Judge, Protocol):
    """A judge whose verdicts rest on one quantity; the validation gate checks the quantity too."""

    quantity: Quantity

    def reading(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Measure every frame of B rollouts (B, T, H, W, 3), in the recorded unit: (B, T)."""
        ...


def ask_verdicts(judge: Judge, frames: NDArray[np.uint8], task: str) -> Verdicts:
    """Return a judge's verdicts on B rollouts (B, T, H, W, 3).

    Raises:
        ValueError: Frames or a task that the judge does not know, or an answer without one bool
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
    """Turn what a judge says of single frames into verdicts on B rollouts.

    Args:
        solved: (B, T) whether the task is solved in a frame; False where it is not readable.
        readable: (B, T) whether the judge can tell.
        confidence: (B, T) confidence in [0, 1] that the task is solved.
    """
    # A task that was solved before the first action is no success of the policy: undecided.
    success = np.asarray(_consecutive(solved).any(axis=1) & ~solved[:, 0])
    # The best that may have happened: the task was solved in every frame that is not readable.
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
