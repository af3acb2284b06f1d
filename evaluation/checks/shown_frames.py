"""Load the frames on which two policies are compared, and check that they are informative."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.arrays import open_arrays, reading
from v2w_gym.world_models.data.sources.opening import read_one

KEYS = ("frames", "image")
ENDINGS = (".png", ".jpg", ".jpeg")
LEAST_CORRELATION = 0.5
"""Between neighbouring pixels; it is 0 in noise and near 1 in a camera's frames."""


def load_frames(path: Path, limit: int) -> NDArray[np.uint8]:
    """Return the first frames of a recording: (T, H, W, 3) uint8, T <= `limit`.

    Args:
        path: An .npz with `frames` or `image`, such as a recorded episode, or a folder of images
            in the order of their names.
        limit: Most frames.

    Raises:
        FileNotFoundError: Nothing there, or no image in the folder.
        ValueError: No frames in the file, or frames of another type or of different sizes.
    """
    if path.is_dir():
        return _read_images(path, limit)
    if not path.is_file():
        raise FileNotFoundError(f"expected an .npz or a folder of images at {path}, found neither")
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


def _read_images(folder: Path, limit: int) -> NDArray[np.uint8]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)[:limit]
    if not paths:
        raise FileNotFoundError(f"expected images {ENDINGS} in {folder}, found none")
    frames = [read_one(path).frames[:1] for path in paths]
    sizes = {frame.shape[1:3] for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size in {folder}, found {sorted(sizes)}")
    return np.concatenate(frames)
