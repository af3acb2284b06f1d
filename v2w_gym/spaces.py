"""Gymnasium spaces of a robot, and how its frames may be shown."""

from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROUNDING, RobotSpec

OBS_TYPES = {"frame": False, "pixels": True}
"""Form of an observation -> whether it is a dict with the key "pixels", as LeRobot wants it."""


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


def observation_space(robot: RobotSpec, obs_type: str) -> Space[Any]:
    """Return the space of observations: camera frames, or a `Dict` of them.

    Raises:
        ValueError: An unknown form.
    """
    frames = frame_space(robot)
    return Dict(pixels=frames) if lookup(OBS_TYPES, obs_type, "obs_type") else frames


def observation(frames: NDArray[np.uint8], obs_type: str) -> Any:
    """Return one frame or a batch of frames in the form that `obs_type` names."""
    return {"pixels": frames} if OBS_TYPES[obs_type] else frames


def full_info(info: dict[str, Any], obs_type: str, terminated: bool) -> dict[str, Any]:
    """Return what goes with an observation: LeRobot reads the last step's info in `final_info`."""
    return {**info, "final_info": info} if OBS_TYPES[obs_type] and terminated else info


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
