"""Load judges: the bundled one of a robot, a file, or an object."""

import warnings
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import STANDIN_SAWYER, RobotSpec
from v2w_gym.configs.text import to_path
from v2w_gym.judges import drawer
from v2w_gym.judges.base import Judge, StepJudge
from v2w_gym.world_models.checkpoint import load_checkpoint

MakeJudge: TypeAlias = Callable[[Path, Mapping[str, Tensor], Mapping[str, Any]], Judge]

JUDGES: Mapping[str, MakeJudge] = {drawer.KIND: drawer.make_judge}
"""Kind on a checkpoint's card -> the function that makes the judge. To add a judge, write a file
beside `drawer.py` and add a line here."""
BUNDLED_JUDGES: Mapping[str, Path] = {
    STANDIN_SAWYER.name: Path(__file__).parents[1] / "weights" / "judge.safetensors"
}
"""Robot -> its bundled judge, which is the robot's default."""
DEFAULT, BUNDLED = "default", "bundled"


def find_judge(judge: StepJudge | str | None, robot: RobotSpec) -> StepJudge | None:
    """Return the judge that an environment's `judge` argument names.

    Args:
        judge: "default" for the robot's bundled judge, or no judge if it has none. "bundled" for
            that judge. Otherwise a path (.safetensors), an object, or None for no judge.
        robot: The robot whose attempts are judged.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a judge, or a judge of another robot.
    """
    check_judge(judge)
    if not isinstance(judge, str):
        return judge
    if judge == DEFAULT and robot.name not in BUNDLED_JUDGES:
        _warn_of_no_judge(robot.name)
        return None
    return load_judge(None if judge in (DEFAULT, BUNDLED) else judge, robot)


def check_judge(judge: StepJudge | str | None) -> None:
    """Check an environment's `judge` argument without loading anything.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not "default", "bundled", a path, an object with `success`, or None.
    """
    if judge is None or callable(getattr(judge, "success", None)):
        return
    if isinstance(judge, str) and judge in (DEFAULT, BUNDLED):
        return
    if not isinstance(judge, str) or not judge.endswith(".safetensors"):
        raise ValueError(
            f"expected judge to be {DEFAULT!r}, {BUNDLED!r}, the path of a judge "
            "(.safetensors), an object with `success(frames, task)`, or None for no judge, found "
            f"{judge!r}"
        )
    _check_file(to_path(judge))


def load_judge(path: str | None = None, robot: RobotSpec = STANDIN_SAWYER) -> Judge:
    """Load a judge, once per process.

    Args:
        path: A judge (.safetensors); None for the robot's bundled judge.
        robot: The robot whose rollouts are judged.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, not a judge, a judge of another robot, or no bundled judge.
    """
    if path is None and robot.name not in BUNDLED_JUDGES:
        raise ValueError(
            f"expected a bundled judge of robot {robot.name!r}, found bundled judges of "
            f"{list(BUNDLED_JUDGES)} only; pass judge=PATH of a judge of this robot"
        )
    file = BUNDLED_JUDGES[robot.name] if path is None else to_path(path)
    _check_file(file)
    judge = _load(file.absolute(), file.stat().st_mtime_ns)
    if judge.card.get("robot") != robot.name:
        raise ValueError(
            f"expected a judge of robot {robot.name!r}, found one of {judge.card.get('robot')!r} "
            f"({path!r}); pass a judge of this robot, or judge=None for no judge"
        )
    return judge


@lru_cache(maxsize=4)
def _load(file: Path, written: int) -> Judge:
    """Load a judge; `written`, the file's modification time, makes the cache reload a new file."""
    tensors, card = load_checkpoint(file)
    make = lookup(JUDGES, card["kind"], f"the kind of judge at {file}")
    return make(file, tensors, card)


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(
            f"expected a judge at {file}, found none; train one with `v2w train-judge`"
        )


@cache
def _warn_of_no_judge(robot: str) -> None:
    warnings.warn(
        f"no rollout counts as a success: no judge of robot {robot!r} is bundled, so `success` is "
        "not in info. Pass judge=PATH of a judge (v2w train-judge) or judge=OBJECT with "
        "`success(frames, task)`; judge=None silences this warning",
        stacklevel=5,
    )
