"""Load the frames on which two policies are compared, and check that they are informative."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.decoding.arrays import open_arrays, reading
from v2w_gym.world_models.data.labelled import ENDING
from v2w_gym.world_models.data.sources.opening import read_one

KEYS = ("frames", "image")
LEAST_CORRELATION = 0.5
"""Between neighbouring pixels; it is 0 in noise and near 1 in a camera's frames."""


def load_frames(path: Path, limit: int) -> NDArray[np.uint8]:
    """Return the first frames of a recording: (T, H, W, 3) uint8, T <= `limit`.

    Args:
        path: An .npz file with `frames` or `image`, or any other recorded data for `read_one`,
            such as a folder of images.
        limit: Most frames.

    Raises:
        FileNotFoundError: Nothing there.
        ValueError: No frames in the file, frames of another type or of different sizes, or as for
            `read_one`.
    """
    if not path.is_file() or path.suffix.lower() != ENDING:
        return read_one(path).frames[:limit]
    with reading(path, f"an .npz file at {path}"), open_arrays(path) as file:
        found = {key: file.header(key) for key in KEYS if key in file.names}
        for key, header in found.items():
            if header.dtype == np.uint8 and len(header.shape) == 4 and header.shape[3] == 3:
                return file.read(key, stop=limit)
        names = file.names
    arrays = [str(header) for header in found.values()] or list(names)
    raise ValueError(f"expected uint8 {KEYS} (T, H, W, 3) in {path}, found {arrays}")


def find_weakness(frames: NDArray[np.uint8]) -> tuple[str, ...]:
    """Return why a comparison on frames (T, H, W, 3) would be weak; empty if it would not."""
    left, right = frames[:, :, :-1].ravel(), frames[:, :, 1:].ravel()
    if left.std() == 0 or np.corrcoef(left, right)[0, 1] < LEAST_CORRELATION:
        return ("the frames look like noise or nothing; a wrong conversion may pass",)
    if (frames == frames[0]).all():
        return ("all frames are the same; the policies' history is not tested",)
    return ()
