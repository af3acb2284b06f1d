"""Check what an environment is given, and load the world model if it has to be loaded."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from v2w_gym.attempts import Setting
from v2w_gym.configs.names import lookup
from v2w_gym.configs.published import HUB_IDS
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.tasks import TASKS, find_task
from v2w_gym.judges.loading import check_judge, find_judge
from v2w_gym.progress import Judge
from v2w_gym.recordings import read_recording
from v2w_gym.registration import DOMAINS
from v2w_gym.starts import BUNDLED_ROBOT, load_start
from v2w_gym.world_models.base import WorldModel


@dataclass(frozen=True)
class ModelChoice:
    """Which world model an environment loads, and which it accepts.

    Attributes:
        checkpoint: See `v2w_gym.world_models.loading.load_world_model`, like the next five.
        preset: See there.
        sampler: See there.
        window: See there.
        context_frames: See there.
        device: See there; None is the CPU.
        robots: Names of the robots the environment is for; None for any.
    """

    checkpoint: str | None = None
    preset: str | None = None
    sampler: Mapping[str, Any] | None = None
    window: int | None = None
    context_frames: int | None = None
    device: str | None = None
    robots: Sequence[str] | None = None


def make_setting(
    model: WorldModel | None,
    choice: ModelChoice,
    task: str,
    start: int | str | None,
    judge: Judge | str | None,
) -> Setting:
    """Put together where attempts take place.

    Raises:
        FileNotFoundError: A checkpoint or start that is no file.
        ValueError: Both a model and how to load one, or something unknown or of another robot.
    """
    lookup(TASKS, task, "task")
    for name in choice.robots or ():
        lookup(ROBOTS, name, "robot")
    if isinstance(start, (str, os.PathLike)):
        read_recording(start, count=1)  # a wrong path is noticed before gigabytes are loaded
    check_judge(judge)
    model = load_model(choice) if model is None else _check_alone(model, choice)
    robot = model.robot
    if choice.robots and robot.name not in choice.robots:
        others = [name for name, robots in DOMAINS.items() if robot.name in robots]
        raise ValueError(
            f"expected a world model of {' or '.join(choice.robots)}, found one of {robot.name}; "
            f"make {' or '.join(others)}"
        )
    find_task(task, robot.name)
    if start is not None:
        load_start(start, task, robot, model.context_frames)
    return Setting(model, find_judge(judge, robot), task, start)


def load_model(choice: ModelChoice) -> WorldModel:
    """Return the world model that is chosen, or the bundled one; loaded once per process.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: No checkpoint and no bundled model of the robot, or an unknown setting.
    """
    from v2w_gym.world_models.loading import load_world_model

    if choice.checkpoint is None:
        if choice.robots and BUNDLED_ROBOT not in choice.robots:
            robot = choice.robots[0]
            raise ValueError(
                f"expected checkpoint= to name a world model of {robot}, found None, and none is "
                f"bundled; {_other_ways(robot)}"
            )
        _say_bundled()
    return load_world_model(
        choice.checkpoint,
        preset=choice.preset,
        sampler=choice.sampler,
        window=choice.window,
        context_frames=choice.context_frames,
        device=choice.device or "cpu",
    )


def _other_ways(robot: str) -> str:
    """Say how somebody gets a world model of a robot of which none is bundled."""
    if robot not in HUB_IDS:
        return f"train one on its episodes: v2w train model.robot={robot}"
    return (
        f"pass checkpoint={HUB_IDS[robot]!r}, or make one with random weights: "
        f"v2w random-checkpoint OUT robot={robot}"
    )


def _check_alone(model: WorldModel, choice: ModelChoice) -> WorldModel:
    """Return a model that was given, if nothing says how to load one."""
    for name in ("checkpoint", "preset", "sampler", "window", "context_frames", "device"):
        value = getattr(choice, name)
        if value is not None:
            raise ValueError(f"expected a model or how to load one, found both ({name}={value!r})")
    return model


@cache
def _say_bundled() -> None:
    warnings.warn(
        "using the small bundled world model of the stand-in robot; pass checkpoint= to use "
        f"another, such as checkpoint={HUB_IDS['google_robot']!r} with a picture as start=",
        stacklevel=2,
    )
