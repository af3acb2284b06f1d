"""Frames and actions of recorded episodes, in this project's files and in converted ones."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.arrays import (
    DAMAGED,
    ArrayFile,
    Header,
    as_numbers,
    open_arrays,
    reading,
)
from v2w_gym.world_models.data.recorded_actions import Misfits, execute_recorded

FORMAT = "v2w-episode-1"
META: Mapping[str, type] = {
    "robot": str,
    "task": str,
    "instruction": str,
    "behaviour": str,
    "seed": int,
}
"""Metadata of this project's episodes, with types."""


@dataclass(frozen=True)
class Recording:
    """Recorded frames, and actions if they are known.

    Attributes:
        frames: (T, H, W, 3) uint8; a picture is a recording of one frame.
        actions: (T - 1, A) float32; `actions[t]` was taken at frame t and led to frame t + 1. None
            if the file has no actions.
        robot: Name of the `RobotSpec`; None if the file names none.
        task: Name of the task; None if the file names none.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32] | None = None
    robot: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class RobotRecording:
    """Frames and actions of one robot.

    Attributes:
        frames: (T, H, W, 3) uint8, of the robot's frame size.
        actions: (T - 1, A) float32, as the robot executes them.
        misfits: Counts of corrected actions.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    misfits: Misfits


@dataclass(frozen=True)
class Layout:
    """Names of the arrays in a file.

    Attributes:
        frames: Name of the frames.
        actions: Name of the actions.
        last_action: Whether the last frame has an action too, which leads to no frame.
    """

    frames: str
    actions: str
    last_action: bool


OURS = Layout("frames", "actions", last_action=False)
CONVERTED = Layout("image", "action", last_action=True)


def load_recording(path: Path, count: int | None = None) -> Recording:
    """Read an .npz file in one of two layouts.

    - an episode of `v2w_gym.world_models.data.episodes`
    - a file of Vid2World's RT-1 converter, with `image` (T, H, W, 3) and perhaps `action` (T, A),
      whose last row leads to no frame

    Args:
        path: The file.
        count: Most frames to read; None for all.

    Raises:
        ValueError: Another layout, a damaged file, or inconsistent arrays.
    """
    with reading(path, f"a recording at {path}"), open_arrays(path) as file:
        layout = find_layout(file)
        meta = read_meta(file) if layout is OURS else {}
        frames = read_frames(file, layout.frames, count)
        actions = None
        if layout is OURS or layout.actions in file.names:
            actions = _read_actions(file, layout)[: len(frames) - 1]
    return Recording(frames, actions, meta.get("robot"), meta.get("task"))


def load_robot_recording(path: Path, robot: RobotSpec) -> RobotRecording:
    """Read an .npz file with frames of a robot and actions as it executes them.

    Raises:
        ValueError: As for `load_recording`; also another robot, or a file without actions.
    """
    found = load_recording(path)
    check_robot(found.robot, found.frames, robot, path)
    if found.actions is None:
        raise ValueError(f"expected actions of robot {robot.name!r} in {path}, found none")
    return RobotRecording(found.frames, *execute_recorded(found.actions, robot, path))


def room_for(paths: Sequence[Path], robot: RobotSpec) -> tuple[NDArray[np.uint8], list[slice]]:
    """Allocate memory for all frames of a robot's recordings; read only their headers.

    The caller then reads one recording at a time, so memory never holds a frame twice.

    Returns:
        Empty frames (N, H, W, 3), and the slice of each recording.

    Raises:
        ValueError: As for `load_recording`, or more frames than memory holds.
    """
    ends = list(accumulate(_count_frames(path) for path in paths))
    shape = (ends[-1], *robot.frame_size, 3)
    try:
        return np.empty(shape, np.uint8), [slice(*pair) for pair in pairwise([0, *ends])]
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"expected frames that fit in memory, found {shape[0]:,} of {shape[1:]}, "
            f"{math.prod(shape) / 2**30:,.0f} GiB; give fewer episodes"
        ) from error


def _count_frames(path: Path) -> int:
    with reading(path, f"a recording at {path}"), open_arrays(path) as file:
        return _frames_header(file, find_layout(file).frames).shape[0]


def is_recording(path: Path) -> bool:
    """Whether an .npz file has the array names of a layout that `load_recording` reads."""
    try:
        with open_arrays(path) as file:
            find_layout(file)
    except DAMAGED:
        return False
    return True


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


def read_frames(file: ArrayFile, name: str, count: int | None = None) -> NDArray[np.uint8]:
    """Return uint8 frames (T, H, W, 3), T > 0, of an open file.

    Raises:
        One of `DAMAGED`: Other arrays, or as for `ArrayFile.read`.
    """
    _frames_header(file, name)
    return file.read(name, count)


def read_meta(file: ArrayFile) -> dict[str, Any]:
    """Return the metadata of an open episode; see `META`.

    Raises:
        One of `DAMAGED`: A missing entry, or one of another type.
    """
    stored = file.read("meta")
    if stored.ndim or stored.dtype.kind != "U":
        raise ValueError(f"`meta` {stored.shape} of {stored.dtype}, not JSON text")
    meta = json.loads(str(stored))
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"`meta` that does not name the format {FORMAT}")
    for name, kind in META.items():
        if type(meta.get(name)) is not kind:
            found = type(meta.get(name)).__name__
            raise ValueError(f"`meta` with a {found} as {name}, not {kind.__name__}")
    if not 0 <= meta["seed"] < 2**63:
        raise ValueError(f"seed {meta['seed']} in `meta`, not one from 0 to 2**63 - 1")
    return {name: meta[name] for name in META}


def find_layout(file: ArrayFile) -> Layout:
    """Return the layout of an open file.

    Raises:
        ValueError: Neither layout.
    """
    if "meta" in file.names:
        return OURS
    if CONVERTED.frames in file.names:
        return CONVERTED
    raise ValueError(f"arrays {sorted(file.names)}, neither an episode's nor `image` and `action`")


def check_frames(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that a shape and type are those of frames: uint8 (T, H, W, 3), T > 0.

    Raises:
        ValueError: Another shape or type.
    """
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not min(shape):
        raise ValueError(f"{dtype} {shape}, not uint8 frames (T, H, W, 3) with T > 0")


def _frames_header(file: ArrayFile, name: str) -> Header:
    header = file.header(name)
    check_frames(header.shape, header.dtype)
    return header


def _read_actions(file: ArrayFile, layout: Layout) -> NDArray[np.float32]:
    """Return the actions between consecutive frames, (T - 1, A)."""
    frames, actions = file.header(layout.frames), file.header(layout.actions)
    wanted = frames.shape[0] - (not layout.last_action)
    if len(actions.shape) != 2 or actions.shape[0] != wanted:
        raise ValueError(f"`{layout.actions}` {actions.shape} for `{layout.frames}` {frames.shape}")
    return as_numbers(layout.actions, file.read(layout.actions), 2)[: frames.shape[0] - 1]
