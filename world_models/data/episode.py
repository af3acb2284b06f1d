"""An episode: the frames that a camera recorded, and the actions between them."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Steps: TypeAlias = slice | NDArray[np.int64]
"""Indices of frames in an episode."""


def rows_of(steps: Steps, length: int) -> NDArray[np.int64]:
    """Return the indices that `steps` chooses of `length` frames, as an array would.

    Raises:
        IndexError: An index out of range.
    """
    return np.arange(length)[steps]


class Frames(Protocol):
    """T frames of one size; only those that are asked for are decoded. An array is one, too."""

    def __len__(self) -> int:
        """Return the number of frames (T)."""

    def __getitem__(self, steps: Steps, /) -> NDArray[np.uint8]:
        """Return the frames at `steps`, (n, H, W, 3) uint8.

        Raises:
            ValueError: A frame is damaged.
        """


@runtime_checkable
class EncodedFrames(Frames, Protocol):
    """Frames that the data set stores as pictures, which can be copied without loss."""

    def encoded(self, step: int, /) -> bytes:
        """Return the stored JPEG or PNG file of one frame."""


@dataclass(frozen=True)
class Episode:
    """T frames recorded on a robot, and the T - 1 actions between them.

    Attributes:
        id: Name of the episode, unique in its source and the same in every run.
        frames: (T, H, W, 3) uint8.
        actions: (T - 1, A) float32; `actions[t]` is taken at frame t and leads to frame t + 1. They
            are in the source's order and units. None if the source has none.
        action_fields: Name and size of each group of action values, in order; None for the order
            of the robot's own fields.
        instruction: Instruction that was given; None if the source has none.
        camera: Name of the camera in the source; "" if there is only one.
        rate: Frames per second; None if the source does not say.
        robot: Name of the `RobotSpec`; None if the source does not say.
        task: Name of the task; None if the source does not say.
        success: (T,) bool, whether the task is solved at each frame; None if that is not recorded.
    """

    id: str
    frames: Frames
    actions: NDArray[np.float32] | None = None
    action_fields: tuple[tuple[str, int], ...] | None = None
    instruction: str | None = None
    camera: str = ""
    rate: float | None = None
    robot: str | None = None
    task: str | None = None
    success: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Return the number of frames (T)."""
        return len(self.frames)
