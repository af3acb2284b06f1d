"""Frames in .npz and .npy files, read on demand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.decoding.arrays import (
    ArrayFile,
    array_header,
    as_numbers,
    open_arrays,
    read_array,
    reading,
)
from v2w_gym.world_models.data.episode import Steps, rows_of


@dataclass(frozen=True)
class ArrayFrames:
    """Frames of an array in a file; see `Frames`.

    A compressed file is unpacked from its beginning up to the last frame that is asked for.

    Attributes:
        path: The file.
        name: Name of the array in an .npz file; "" for a .npy file.
        length: Number of frames.
    """

    path: Path
    name: str
    length: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.length

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return some frames; see `Frames`."""
        rows = rows_of(steps, self.length)
        first, end = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        found = self._read(first, end)
        in_order = len(rows) == len(found) and (np.diff(rows) == 1).all()
        return found if in_order else found[rows - first]

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        with reading(self.path, f"a recording at {self.path}"):
            if not self.name:
                return read_array(self.path, start, stop)
            with open_arrays(self.path) as file:
                return file.read(self.name, start, stop)


def archived_frames(path: Path, file: ArrayFile, name: str) -> ArrayFrames:
    """Return the frames of an open .npz file.

    Raises:
        One of `DAMAGED`: Other arrays, or as for `ArrayFile.header`.
    """
    header = file.header(name)
    check_frames(header.shape, header.dtype)
    return ArrayFrames(path, name, header.shape[0])


def load_frames(path: Path) -> ArrayFrames | NDArray[np.uint8]:
    """Return the frames (T, H, W, 3) of a .npy file, or its only frame (H, W, 3).

    Raises:
        ValueError: Another or a damaged file.
    """
    with reading(path, f"a recording at {path}"):
        header = array_header(path)
        single = len(header.shape) == 3
        check_frames((1,) * single + header.shape, header.dtype)
        return read_array(path)[None] if single else ArrayFrames(path, "", header.shape[0])


def check_frames(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that a shape and type are those of frames: uint8 (T, H, W, 3), T > 0.

    Raises:
        ValueError: Another shape or type.
    """
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not min(shape):
        raise ValueError(f"{dtype} {shape}, not uint8 frames (T, H, W, 3) with T > 0")


def room_for(
    lengths: Sequence[int], frame_size: tuple[int, int]
) -> tuple[NDArray[np.uint8], list[slice]]:
    """Allocate memory for all frames of some episodes.

    The caller then reads one episode at a time, so memory never holds a frame twice.

    Args:
        lengths: Number of frames of each episode.
        frame_size: Height and width.

    Returns:
        Empty frames (N, H, W, 3), and the slice of each episode.

    Raises:
        ValueError: More frames than memory holds.
    """
    ends = list(accumulate(lengths))
    shape = (ends[-1], *frame_size, 3)
    try:
        return np.empty(shape, np.uint8), [slice(*pair) for pair in pairwise([0, *ends])]
    except (MemoryError, ValueError) as error:
        raise ValueError(
            f"expected frames that fit in memory, found {shape[0]:,} of {shape[1:]}, "
            f"{math.prod(shape) / 2**30:,.0f} GiB; give fewer episodes"
        ) from error


def actions_of(file: ArrayFile, name: str, frames: ArrayFrames, last: bool) -> NDArray[np.float32]:
    """Return the actions (T - 1, A) between the frames of an open .npz file.

    Args:
        file: The file.
        name: Name of the actions.
        frames: Its frames.
        last: Whether the last frame has an action, too, which leads to no frame.

    Raises:
        One of `DAMAGED`: No such array, or one of another shape or type.
    """
    shape = file.header(name).shape
    if len(shape) != 2 or shape[0] != len(frames) - (not last):
        raise ValueError(f"`{name}` {shape} for {len(frames)} `{frames.name}`")
    return as_numbers(name, file.read(name), 2)[: len(frames) - 1]
