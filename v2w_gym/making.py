"""Check what an environment is given, and load the world model if it has to be loaded."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from v2w_gym.attempts import Simulation
from v2w_gym.configs.names import lookup
from v2w_gym.configs.published import HUB_IDS
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.tasks import TASKS, find_task
from v2w_gym.configs.world_model import WorldModelSettings, world_model_settings
from v2w_gym.judges.base import StepJudge
from v2w_gym.judges.loading import check_judge, find_judge
from v2w_gym.recordings import read_recording
from v2w_gym.registration import DOMAINS
from v2w_gym.starts import BUNDLED_ROBOT, load_start
from v2w_gym.world_models.base import WorldModel


def choose_model(
    model: WorldModel | WorldModelSettings | None, given: Mapping[str, Any], caller: type[Any]
) -> WorldModel | WorldModelSettings:
    """Return the world model that an environment is given, or the settings that choose one.

    Args:
        model: A world model, settings that choose one, or None.
        given: Fields of `WorldModelSettings` by name.
        caller: The environment, for messages.

    Raises:
        TypeError: An unknown name.
        ValueError: A setting out of range, or both a model and how to load one.
    """
    settings = world_model_settings(given, caller)
    named = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if model is not None and named:
        raise ValueError(f"expected a model or how to load one, found both ({', '.join(named)})")
    return settings if model is None else model


def make_simulation(
    model: WorldModel | WorldModelSettings,
    robots: Sequence[str] | None,
    task: str,
    start: int | str | None,
    judge: StepJudge | str | None,
) -> Simulation:
    """Load what attempts take place in, once all that can be is checked.

    Raises:
        FileNotFoundError: A checkpoint or start that is no file.
        ValueError: Something unknown, or of another robot than those the environment is for.
    """
    lookup(TASKS, task, "task")
    for name in robots or ():
        lookup(ROBOTS, name, "robot")
    if isinstance(start, (str, os.PathLike)):
        read_recording(start, count=1)  # a wrong path is noticed before gigabytes are loaded
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
    find_task(task, robot.name)
    if start is not None:
        load_start(start, task, robot, model.context_frames)
    return Simulation(model, find_judge(judge, robot))


def load_model(settings: WorldModelSettings, robots: Sequence[str] | None) -> WorldModel:
    """Return the world model that is chosen, or the bundled one; loaded once per process.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: No checkpoint and no bundled model of the robots, or settings that do not fit.
    """
    from v2w_gym.world_models.loading import load_with

    if settings.checkpoint is None:
        if robots and BUNDLED_ROBOT not in robots:
            robot = robots[0]
            raise ValueError(
                f"expected checkpoint= to name a world model of {robot}, found None, and none is "
                f"bundled; {_other_ways(robot)}"
            )
        _say_bundled()
    return load_with(settings)


def _other_ways(robot: str) -> str:
    """Say how somebody gets a world model of a robot of which none is bundled."""
    if robot not in HUB_IDS:
        return f"train one on its episodes: v2w train model.robot={robot}"
    return (
        f"pass checkpoint={HUB_IDS[robot]!r}, or make one with random weights: "
        f"v2w random-checkpoint OUT robot={robot}"
    )


@cache
def _say_bundled() -> None:
    warnings.warn(
        "using the small bundled world model of the stand-in robot; pass checkpoint= to use "
        f"another, such as checkpoint={HUB_IDS['google_robot']!r} with a picture as start=",
        stacklevel=2,
    )
