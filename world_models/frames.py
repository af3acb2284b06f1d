"""Conversion of frames between uint8 and tensors, and between camera and model sizes."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.model import GeometryConfig
from v2w_gym.configs.robots import RobotSpec

BLACK = -1.0


def to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 (..., H, W, 3) into float32 (..., 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def to_uint8(frames: Tensor) -> NDArray[np.uint8]:
    """Turn float (..., 3, H, W) in [-1, 1] into uint8 (..., H, W, 3), rounding to nearest."""
    pixels = ((frames.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous().cpu().numpy()


def to_canvas(frames: Tensor, geometry: GeometryConfig) -> Tensor:
    """Resize camera frames (N, 3, H, W), and pad them to the canvas with black bars.

    If bars cannot be equal, those below and on the right are one pixel wider.
    Source: the published data sets' Resize and CenterCrop, which pads frames that are too small.
    """
    resized = F.interpolate(frames, geometry.resized, mode="bilinear", antialias=True)
    return F.pad(resized, _bars(geometry), value=BLACK)


def place_on_canvas(
    frames: NDArray[np.uint8], geometry: GeometryConfig, out: NDArray[np.uint8]
) -> None:
    """Resize camera frames (N, H, W, 3), and write them with black bars to `out`, in grey levels.

    This is `to_canvas` within one grey level, and many times as fast.
    """
    pixels = torch.from_numpy(frames).movedim(-1, -3)
    resized = F.interpolate(pixels, geometry.resized, mode="bilinear", antialias=True)
    left, right, top, bottom = _bars(geometry)
    height, width = geometry.canvas
    out[:, :top] = out[:, height - bottom :] = 0
    out[:, :, :left] = out[:, :, width - right :] = 0
    out[:, top : height - bottom, left : width - right] = resized.movedim(-3, -1).numpy()


def from_canvas(frames: Tensor, geometry: GeometryConfig, size: tuple[int, int]) -> Tensor:
    """Cut the bars off frames (N, 3, H, W), and resize the rest to the camera's `size`."""
    left, _, top, _ = _bars(geometry)
    height, width = geometry.resized
    inside = frames[..., top : top + height, left : left + width]
    return F.interpolate(inside, size, mode="bilinear", antialias=True)


def fit(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Centre-crop frames (N, H, W, 3) to the aspect ratio of `size`, then resize them to it."""
    height, width = frames.shape[1:3]
    scale = min(height / size[0], width / size[1])
    kept = round(scale * size[0]), round(scale * size[1])
    top, left = (height - kept[0]) // 2, (width - kept[1]) // 2
    inside = to_tensor(frames[:, top : top + kept[0], left : left + kept[1]])
    return to_uint8(F.interpolate(inside, size, mode="bilinear", antialias=True))


def check_frames(frames: NDArray[np.uint8], robot: RobotSpec) -> NDArray[np.uint8]:
    """Return `frames` if they are (N, H, W, 3) uint8 of the robot's frame size.

    Raises:
        ValueError: Another type or shape.
    """
    expected = (*robot.frame_size, 3)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
        raise ValueError(
            f"expected uint8 frames of shape (N, {', '.join(map(str, expected))}) for robot "
            f"{robot.name!r}, found {frames.dtype} {frames.shape}; crop and resize "
            "them first (in a command: fit=true)"
        )
    return frames


def check_context(
    frames: NDArray[np.uint8], actions: NDArray[np.float32], robot: RobotSpec, window: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Check and return the frames (B, T, H, W, 3) and actions (B, T - 1, A) of a rollout's start.

    Raises:
        ValueError: Another type or shape, frames that leave no room in the window, or an action
            out of bounds. An action that is NaN throughout is unknown and allowed.
    """
    if frames.ndim != 5 or not 0 < frames.shape[1] < window:
        raise ValueError(
            f"expected 1 to {window - 1} frames (B, T, H, W, 3) to begin with, found shape "
            f"{frames.shape}"
        )
    check_frames(frames.reshape(-1, *frames.shape[2:]), robot)
    return frames, _check_sequence(actions, (len(frames), frames.shape[1] - 1), robot)


def check_clip(
    frames: NDArray[np.uint8], actions: NDArray[np.float32], robot: RobotSpec, window: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Check and return the first frames (B, H, W, 3) and actions (B, T - 1, A) of clips.

    Raises:
        ValueError: Another type or shape, or a clip longer than the window.
    """
    check_frames(frames, robot)
    if actions.ndim != 3 or not 0 < actions.shape[1] < window:
        raise ValueError(
            f"expected 1 to {window - 1} actions (B, T - 1, A), one for each frame of a clip but "
            f"the first, found shape {actions.shape}"
        )
    return frames, _check_sequence(actions, (len(frames), actions.shape[1]), robot)


def _check_sequence(
    actions: NDArray[np.float32], expected: tuple[int, int], robot: RobotSpec
) -> NDArray[np.float32]:
    shape = (*expected, robot.action_size)
    if actions.shape != shape:
        raise ValueError(
            f"expected actions of shape {shape} for robot {robot.name!r}, found {actions.shape}"
        )
    known = ~np.isnan(actions).all(axis=2)
    checked = actions.astype(np.float32)
    checked[known] = robot.check_actions(checked[known])
    return checked


def _bars(geometry: GeometryConfig) -> tuple[int, int, int, int]:
    """Return the widths of the bars on the left, right, top and bottom."""
    height = geometry.canvas[0] - geometry.resized[0]
    width = geometry.canvas[1] - geometry.resized[1]
    return width // 2, width - width // 2, height // 2, height - height // 2
