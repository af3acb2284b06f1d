"""Check an environment's arguments, then load its world model and judge."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from v2w_gym.attempts import Simulation
from v2w_gym.configs.names import lookup
from v2w_gym.configs.published import HUB_IDS
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.tasks import TASKS, find_task, tasks_of
from v2w_gym.configs.world_model import WorldModelSettings, world_model_settings
from v2w_gym.judges.base import StepJudge
from v2w_gym.judges.loading import check_judge, find_judge
from v2w_gym.registration import DOMAINS
from v2w_gym.starts import BUNDLED_ROBOT, load_start
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.data.sources.opening import read_one


def choose_model(
    model: WorldModel | WorldModelSettings | None, given: Mapping[str, Any], caller: type[Any]
) -> WorldModel | WorldModelSettings:
    """Return `model`, or the settings that load one.

    Args:
        model: A world model, its settings, or None.
        given: Fields of `WorldModelSettings` by name.
        caller: The environment, for error messages.

    Raises:
        TypeError: An unknown name.
        ValueError: A setting out of range, or both a model and settings.
    """
    settings = world_model_settings(given, caller)
    named = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if model is not None and named:
        raise ValueError(
            f"expected a model or settings that load one, found both ({', '.join(named)}); "
            "remove one of them"
        )
    return settings if model is None else model


def make_simulation(
    model: WorldModel | WorldModelSettings,
    robots: Sequence[str] | None,
    task: str | None,
    start: int | str | None,
    judge: StepJudge | str | None,
) -> Simulation:
    """Check every argument that needs no weights, then load the world model and the judge.

    Raises:
        FileNotFoundError: No such checkpoint or start.
        ValueError: An unknown name, or a model, task, start or judge of another robot.
    """
    if task is not None:
        lookup(TASKS, task, "task")
    for name in robots or ():
        lookup(ROBOTS, name, "robot")
    if isinstance(start, (str, os.PathLike)):
        read_one(start).frames[:1]  # fail on a wrong path before gigabytes are loaded
    check_judge(judge)
    if isinstance(model, WorldModelSettings):
        model = load_model(model, robots)
    robot = model.robot
    if robots and robot.name not in robots:
        others = [name for name, known in DOMAINS.items() if robot.name in known]
        raise ValueError(
            f"expected a world model of {' or '.join(robots)}, found one of {robot.name}; "
            f"make {' or '.join(others)}"
        )
    task = find_task(task or next(iter(tasks_of(robot.name))), robot.name).name
    if start is not None:
        load_start(start, task, robot, model.context_frames)
    return Simulation(model, find_judge(judge, robot))


def load_model(settings: WorldModelSettings, robots: Sequence[str] | None) -> WorldModel:
    """Return the world model of a checkpoint, or the bundled one; loaded once per process.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: No checkpoint is named and the robots have no bundled model, or the settings do
            not fit the model.
    """
    from v2w_gym.world_models.loading import load_with

    if settings.checkpoint is None:
        if robots and BUNDLED_ROBOT not in robots:
            robot = robots[0]
            raise ValueError(
                f"expected checkpoint= to name a world model of {robot}, found None, and none is "
                f"bundled; {_other_ways(robot)}"
            )
        _warn_of_bundled()
    return load_with(settings)


def _other_ways(robot: str) -> str:
    """Say how to get a world model of a robot that has no bundled one."""
    if robot not in HUB_IDS:
        return f"train one on its episodes: v2w train model.robot={robot}"
    return (
        f"pass checkpoint={HUB_IDS[robot]!r}, or make one with random weights: "
        f"v2w random-checkpoint OUT robot={robot}"
    )


@cache
def _warn_of_bundled() -> None:
    warnings.warn(
        "using the small bundled world model of the stand-in robot; pass checkpoint= to use "
        f"another, such as checkpoint={HUB_IDS['google_robot']!r} with a picture as start=",
        stacklevel=2,
    )
