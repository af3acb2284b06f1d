"""Tasks: their instructions and horizons, and the robots that can attempt them."""

from collections.abc import Mapping
from dataclasses import dataclass

from v2w_gym.configs.names import lookup


@dataclass(frozen=True)
class Task:
    """A task of a robot.

    Attributes:
        name: Key in `TASKS`.
        instruction: Instruction of a language-conditioned policy.
        horizon: Control steps after which an attempt counts as failed.
        robots: Names of the robots that can attempt it.
    """

    name: str
    instruction: str
    horizon: int
    robots: tuple[str, ...]


ARMS = ("google_robot", "standin_sawyer")

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("close_drawer", "close the drawer", 20, ARMS),
        Task("open_drawer", "open the drawer", 20, ARMS),
        Task("play", "play", 100, ("csgo_player",)),
        Task("drive", "drive on", 16, ("recon_jackal",)),
        Task("carrot_on_plate", "put carrot on plate", 60, ("widowx",)),
        Task("spoon_on_towel", "put the spoon on the towel", 60, ("widowx",)),
        Task("stack_cube", "stack the green block on the yellow block", 60, ("widowx",)),
        Task("eggplant_in_basket", "put eggplant into yellow basket", 120, ("widowx",)),
    )
}
"""The WidowX's tasks are those of SIMPLER, arXiv 2405.05941: 12 and 24 seconds at 5 Hz."""


def tasks_of(robot: str) -> dict[str, Task]:
    """Return the tasks that a robot can attempt, by name."""
    return {name: task for name, task in TASKS.items() if robot in task.robots}


def find_task(name: str, robot: str) -> Task:
    """Return the task called `name`, for a robot that can attempt it.

    Raises:
        ValueError: Unknown task, or a task of other robots.
    """
    task = lookup(TASKS, name, "task")
    if robot not in task.robots:
        raise ValueError(
            f"expected task to be one of {sorted(tasks_of(robot))} for robot {robot!r}, found "
            f"{name!r}, a task of {' and '.join(task.robots)}"
        )
    return task
