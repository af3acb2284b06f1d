"""Who decides whether an attempt worked: nobody, the bundled judge, a file, or an object."""

import warnings
from functools import cache

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.text import to_path
from v2w_gym.progress import Judge

DEFAULT, BUNDLED = "default", "bundled"
BUNDLED_FOR = "standin_sawyer"
"""The robot whose frames the bundled judge reads."""


def find_judge(judge: Judge | str | None, robot: RobotSpec) -> Judge | None:
    """Return the judge that is meant.

    Args:
        judge: "default" for the bundled judge where it knows the robot, else nobody; "bundled" for
            that judge; the path of another (.safetensors); an object; None for nobody.
        robot: Whose attempts are judged.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a judge, or one of another robot.
    """
    check_judge(judge)
    if isinstance(judge, str) and judge == DEFAULT and robot.name != BUNDLED_FOR:
        _say_nobody(robot.name)
        return None
    return _load(judge, robot) if isinstance(judge, str) else judge


def check_judge(judge: Judge | str | None) -> None:
    """Check what can be checked of a judge before anything is loaded.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Neither a word nor a path nor an object that can judge.
    """
    if judge is None or callable(getattr(judge, "success", None)):
        return
    if isinstance(judge, str) and judge in (DEFAULT, BUNDLED):
        return
    if not isinstance(judge, str) or not judge.endswith(".safetensors"):
        raise ValueError(
            f"expected judge to be {DEFAULT!r}, {BUNDLED!r}, the path of a judge (.safetensors), "
            f"an object with `success(frames, task)`, or None for nobody, found {judge!r}"
        )
    if not to_path(judge).is_file():
        raise FileNotFoundError(
            f"expected a judge at {judge}, found none; train one with `v2w train-judge`"
        )


def _load(judge: str, robot: RobotSpec) -> Judge:
    from v2w_gym.judges.drawer import load_judge

    named = judge in (DEFAULT, BUNDLED)
    loaded = load_judge(None if named else judge)
    if loaded.card.get("robot") != robot.name:
        raise ValueError(
            f"expected a judge of robot {robot.name!r}, found one of {loaded.card.get('robot')!r} "
            f"({judge!r}); pass a judge of this robot, or judge=None for nobody"
        )
    return loaded


@cache
def _say_nobody(robot: str) -> None:
    warnings.warn(
        f"nobody decides on success: no judge of robot {robot!r} is bundled, so `success` is not "
        "in info. Pass judge=PATH of a judge (v2w train-judge), judge=OBJECT with "
        "`success(frames, task)`, or judge=None to say that it is meant",
        stacklevel=5,
    )
