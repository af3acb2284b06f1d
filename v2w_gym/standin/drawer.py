"""When the stand-in's drawer counts as closed or as open: the one place that says so."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup

Opening = TypeVar("Opening", float, NDArray[np.float64])

CLOSED_BELOW = 0.03
"""A drawer open by at most this much, in metres, counts as closed."""
OPEN_ABOVE = 0.12
"""A drawer open by at least this much, in metres, counts as open (its rail ends at 0.16)."""


def margin(opening: Opening, task: str) -> Opening:
    """Return by how many metres openings are on the solved side of the task's threshold.

    Raises:
        ValueError: Not a task of the drawer.
    """
    margins: Mapping[str, Callable[[], Opening]] = {
        "close_drawer": lambda: CLOSED_BELOW - opening,
        "open_drawer": lambda: opening - OPEN_ABOVE,
    }
    return lookup(margins, task, "task")()
