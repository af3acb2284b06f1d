"""Pixels to tensors and back: the only place that knows pixel ranges."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.robots import RobotSpec


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 (..., H, W, 3) into float32 (..., 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def to_uint8(frames: Tensor) -> NDArray[np.uint8]:
    """Turn float (..., 3, H, W) in [-1, 1] into uint8 (..., H, W, 3), rounding to nearest."""
    pixels = ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()


def check_frames(frames: NDArray[np.uint8], robot: RobotSpec) -> NDArray[np.uint8]:
    """Return `frames` if they are (B, H, W, 3) uint8 of the robot's frame size.

    Raises:
        ValueError: Another type or shape.
    """
    expected = (*robot.frame_size, 3)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
        raise ValueError(
            f"expected uint8 frames of shape (B, {', '.join(map(str, expected))}) for robot "
            f"{robot.name!r}, found {frames.dtype} {frames.shape}; crop and resize them first"
        )
    return frames
