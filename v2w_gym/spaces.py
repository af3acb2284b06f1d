"""Gymnasium spaces of a robot."""

import numpy as np
from gymnasium.spaces import Box

from configs.robots import RobotSpec


def action_space(robot: RobotSpec) -> Box:
    """Return the robot's own action bounds, (A,) float32."""
    return Box(robot.low, robot.high, dtype=np.float32)


def frame_space(robot: RobotSpec) -> Box:
    """Return the space of camera frames, (H, W, 3) uint8."""
    return Box(0, 255, (*robot.frame_size, 3), np.uint8)
