"""Recorded actions as the robot executes them: clipped, checked and counted."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import ClippedActions, RobotSpec

log = logging.getLogger(__name__)

FAR = 1
"""A value is far off beyond this many times the width of its bounds."""
LEAST_ACTIONS = 8
"""Fewest actions that show whether far-off values are outliers or other units."""


@dataclass(frozen=True)
class Misfits:
    """Counts of corrected values in recorded actions; `+` adds those of several episodes.

    Attributes:
        episodes: Number of episodes.
        values: Number of action values in them.
        clipped: Values outside the robot's bounds, which were clipped.
        clipped_episodes: Episodes with such values.
        not_one_hot: Actions with a one-hot field that was not one-hot and was set to rest.
        not_one_hot_episodes: Episodes with such actions.
        farthest: Distance of the worst value from its bounds, and its name and value.
    """

    episodes: int = 0
    values: int = 0
    clipped: int = 0
    clipped_episodes: int = 0
    not_one_hot: int = 0
    not_one_hot_episodes: int = 0
    farthest: tuple[float, str] = (0.0, "")

    def __add__(self, other: "Misfits") -> "Misfits":
        """Return the counts of both."""
        sums = {
            name: getattr(self, name) + getattr(other, name)
            for name in self.__dataclass_fields__
            if name != "farthest"
        }
        return Misfits(**sums, farthest=max(self.farthest, other.farthest))

    def __str__(self) -> str:
        """Return one line for messages; empty if nothing was corrected."""
        parts = []
        if self.clipped:
            parts.append(
                f"{self.clipped:,} of {self.values:,} values in {self.clipped_episodes:,} of "
                f"{self.episodes:,} episodes were beyond the robot's bounds (such as "
                f"{self.farthest[1]}) and were clipped"
            )
        if self.not_one_hot:
            parts.append(
                f"{self.not_one_hot:,} actions in {self.not_one_hot_episodes:,} of "
                f"{self.episodes:,} episodes had a field that was not one-hot and was set to rest"
            )
        return "; ".join(parts)


NO_MISFITS = Misfits()


def execute_recorded(
    actions: NDArray[Any], robot: RobotSpec, origin: object
) -> tuple[NDArray[np.float32], Misfits]:
    """Return the recorded actions (T, A) of one episode as a robot executes them.

    Args:
        actions: (T, A).
        robot: The robot.
        origin: Source of the actions, for messages.

    Raises:
        ValueError: Wrong shape, a value that is not finite, or actions in other units, most of
            which are far outside the bounds.
    """
    try:
        executed = robot.clip_actions(actions)
        _check_units(actions, executed, robot)
    except ValueError as error:
        raise ValueError(f"recorded actions of {origin} do not fit: {error}") from error
    clipped, not_one_hot = int(executed.clipped.sum()), int(executed.not_one_hot.sum())
    return executed.actions, Misfits(
        episodes=1,
        values=executed.actions.size,
        clipped=clipped,
        clipped_episodes=int(clipped > 0),
        not_one_hot=not_one_hot,
        not_one_hot_episodes=int(not_one_hot > 0),
        farthest=_farthest(actions, executed, robot),
    )


def execute_known(
    actions: NDArray[Any], robot: RobotSpec, origin: object
) -> tuple[NDArray[np.float32], Misfits]:
    """Return recorded actions as `execute_recorded` does; an action of NaN alone is unknown.

    Raises:
        ValueError: As for `execute_recorded`; also an action that is NaN in part.
    """
    known = ~np.isnan(actions).all(axis=1)
    executed, misfits = execute_recorded(actions[known], robot, origin)
    everything = np.full((len(actions), robot.action_size), np.nan, np.float32)
    everything[known] = executed
    return everything, misfits


def warn_of(misfits: Misfits, origin: object) -> None:
    """Log a warning about corrected actions, once for all episodes of a command."""
    if text := str(misfits):
        log.warning("recorded actions of %s: %s", origin, text)


def check_robot(
    name: str | None, frames: NDArray[np.uint8], robot: RobotSpec, origin: object
) -> None:
    """Check the robot and the frame size of a recording.

    Args:
        name: Name of the robot in the recording; None if it names none.
        frames: (T, H, W, 3) uint8.
        robot: The expected robot.
        origin: Source of the recording, for messages.

    Raises:
        ValueError: Another robot or frame size.
    """
    if name is not None and name != robot.name:
        raise ValueError(f"expected robot {robot.name!r} in {origin}, found {name!r}")
    if frames.shape[1:3] != robot.frame_size:
        raise ValueError(
            f"expected frames of {robot.frame_size} pixels for robot {robot.name!r} in {origin}, "
            f"found {frames.shape[1:3]}; record or convert them at that size"
        )


def _check_units(actions: NDArray[Any], executed: ClippedActions, robot: RobotSpec) -> None:
    far = executed.clipped & (np.abs(actions - executed.actions) > FAR * (robot.high - robot.low))
    far[:, robot.low == robot.high] = False
    rows = np.flatnonzero(far.any(axis=1))
    if len(actions) >= LEAST_ACTIONS and 2 * len(rows) > len(actions):
        row, column = (int(i) for i in np.argwhere(far)[0])
        raise ValueError(
            f"expected {robot.value_names[column]} in [{robot.low[column]:g}, "
            f"{robot.high[column]:g}] for robot {robot.name!r}, found {actions[row, column]:g} in "
            f"row {row}, and {len(rows)} of {len(actions)} actions as far off; convert them to the "
            "robot's units first"
        )


def _farthest(
    actions: NDArray[Any], executed: ClippedActions, robot: RobotSpec
) -> tuple[float, str]:
    off = np.where(executed.clipped, np.abs(actions - executed.actions), 0)
    if not executed.clipped.any():
        return 0.0, ""
    row, column = np.unravel_index(np.argmax(off), off.shape)
    return float(off[row, column]), f"{robot.value_names[column]} = {actions[row, column]:g}"
