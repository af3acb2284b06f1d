"""Gymnasium spaces of a robot, and how its frames may be shown."""

from typing import cast

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray

from configs.robots import ROUNDING, RobotSpec


def action_space(robot: RobotSpec) -> Space[NDArray[np.float32]]:
    """Return the robot's own action bounds: a `Box` (A,) float32.

    A value the robot cannot move gets room for rounding, because Gymnasium warns of equal bounds.
    """
    room = np.where(robot.low == robot.high, ROUNDING, 0).astype(np.float32)
    space = Box(robot.low - room, robot.high + room, dtype=np.float32)
    return cast("Space[NDArray[np.float32]]", space)


def frame_space(robot: RobotSpec) -> Space[NDArray[np.uint8]]:
    """Return the space of camera frames: a `Box` (H, W, 3) uint8."""
    return cast("Space[NDArray[np.uint8]]", Box(0, 255, (*robot.frame_size, 3), np.uint8))


def check_render_mode(mode: str | None) -> str | None:
    """Return `mode` if it is None or "rgb_array".

    Raises:
        ValueError: Another mode; for "human", make the environment through Gymnasium.
    """
    if mode in (None, "rgb_array"):
        return mode
    raise ValueError(
        f"expected render_mode None or 'rgb_array', found {mode!r}; "
        "gym.make(..., render_mode='human') opens a window around 'rgb_array'"
    )
