"""Which tasks exist and how a person would ask a robot for each."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Something a robot is asked to do.

    Attributes:
        name: Key in `TASKS`.
        instruction: What a language-conditioned policy is told.
        horizon: Control steps after which an attempt counts as failed.
    """

    name: str
    instruction: str
    horizon: int


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("close_drawer", "close the drawer", 20),
        Task("open_drawer", "open the drawer", 20),
    )
}
