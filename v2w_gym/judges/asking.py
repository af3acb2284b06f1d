"""Ask a judge, and refuse an answer that says nothing about the rollouts it was shown."""

import numpy as np
from numpy.typing import NDArray

from v2w_gym.judges.base import Judge, StepJudge, Verdicts


def ask_success(judge: StepJudge, frames: NDArray[np.uint8], task: str) -> list[bool]:
    """Return a judge's verdict on the last frame of each of B videos (B, T, H, W, 3).

    Raises:
        ValueError: An answer that is not one bool for each video.
    """
    answer: object = judge.success(frames, task)
    if not isinstance(answer, np.ndarray):
        found = f"{type(answer).__name__}"
    elif answer.dtype == np.bool_ and answer.shape == (len(frames),):
        return [bool(solved) for solved in answer]
    else:
        found = f"{answer.dtype} {answer.shape}"
    raise ValueError(
        f"expected the judge's `success` to return a bool array of shape ({len(frames)},), found "
        f"{found}; correct {type(judge).__name__}"
    )


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
