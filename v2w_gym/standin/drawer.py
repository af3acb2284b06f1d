"""The stand-in's drawer tasks: their simulator and the drawer openings that solve them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup

Opening = TypeVar("Opening", float, NDArray[np.float64])


@dataclass(frozen=True)
class DrawerTask:
    """A task with the simulated drawer.

    Attributes:
        simulator: Name of Meta-World's environment. It decides whether the drawer begins open or
            closed, and its expert solves the task.
        solved: Smallest and largest opening, in metres, that count as solved.
        opposite: Task that undoes it.
        expert_gain: Factor on the expert's motion, so that it finishes within the horizon.
    """

    simulator: str
    solved: tuple[float, float]
    opposite: str
    expert_gain: float = 1.0


DRAWER_TASKS: Mapping[str, DrawerTask] = {
    "close_drawer": DrawerTask("drawer-close-v3", (-inf, 0.03), opposite="open_drawer"),
    "open_drawer": DrawerTask("drawer-open-v3", (0.12, inf), "close_drawer", expert_gain=2.5),
}
"""Name in `v2w_gym.configs.tasks.TASKS` -> drawer task. The drawer's rail ends at 0.16 m."""


@cache
def drawer_task(name: str) -> DrawerTask:
    """Return a task of the drawer.

    Raises:
        ValueError: Not a task of the drawer.
    """
    return lookup(DRAWER_TASKS, name, "task")


def margin(opening: Opening, task: str) -> Opening:
    """Return how many metres inside (positive) or outside the solved range an opening is.

    Raises:
        ValueError: Not a task of the drawer.
    """
    least, most = drawer_task(task).solved
    return cast(Opening, np.minimum(opening - least, most - opening))


def begins_as(task: str) -> str:
    """Return the first task that begins with the same scene; starts are bundled for that one."""
    simulator = DRAWER_TASKS[task].simulator if task in DRAWER_TASKS else None
    alike = (name for name, other in DRAWER_TASKS.items() if other.simulator == simulator)
    return next(alike, task)
