"""Ask a judge about whole rollouts; an answer that says nothing about them is refused."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from v2w_gym.evaluation.success import RolloutJudge, Verdicts
from v2w_gym.progress import SOLVED_FRAMES, ask
from v2w_gym.starts import load_start
from v2w_gym.world_models.base import WorldModel

NEEDED = ("name", "card", "success", "verdicts")


def judge_rollouts(judge: RolloutJudge, frames: NDArray[np.uint8], task: str) -> Verdicts:
    """Return a judge's verdicts on B attempts (B, T, H, W, 3).

    Raises:
        ValueError: Frames or a task that the judge does not know, or an answer without one bool
            `success`, one bool `abstained` and one `score` in [0, 1] per attempt.
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


def check_rollout_judge(judge: RolloutJudge, model: WorldModel, tasks: Sequence[str]) -> None:
    """Show a judge the first start of every task, so that it fails before the rollouts if at all.

    Raises:
        ValueError: Something that is no judge of rollouts, or that does not know the frames or a
            task; or a task without bundled starts for the model's robot.
    """
    missing = [name for name in NEEDED if not hasattr(judge, name)]
    if missing:
        raise ValueError(
            f"expected a judge with {', '.join(NEEDED)} (v2w_gym.evaluation.success.RolloutJudge), "
            f"found {type(judge).__name__} without {', '.join(missing)}"
        )
    for task in tasks:
        frame = load_start(0, task, model.robot, model.context_frames).frames[-1]
        still = np.stack([frame] * SOLVED_FRAMES)[None]
        ask(judge, still, task)
        judge_rollouts(judge, still, task)


def _check_values(judge: str, name: str, found: object, kind: type, count: int) -> None:
    what = type(found).__name__
    if isinstance(found, np.ndarray):
        if found.shape == (count,) and np.issubdtype(found.dtype, kind):
            return
        what = f"{found.dtype} {found.shape}"
    raise ValueError(
        f"expected `{name}` of the verdicts of judge {judge!r} to be an array of {kind.__name__} "
        f"with shape ({count},), one value per attempt, found {what}"
    )
