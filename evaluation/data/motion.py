"""How a picture moves from one frame to the next, in a few numbers."""

import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Frames are shrunk until their shorter side has about this many pixels."""
CELLS = 4
"""Cells of the grid in each direction."""
DAMPING = 1e-3
"""Variance of the brightness slope, per pixel, below which a cell counts as without texture."""

Numbers = NDArray[np.float64]


def find_motion(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the displacement of the picture in each cell of a grid.

    Brightness is taken to move, not to change: `slope * displacement + change = 0`, solved over the
    pixels of a cell by least squares.

    Args:
        frames: (T, H, W, 3) uint8.

    Returns:
        (T - 1, 2 * CELLS**2), in pixels of the shrunken frame: first all to the right, then down.
        Zeros for frames with fewer pixels than cells.

    Source: Lucas and Kanade, An Iterative Image Registration Technique, IJCAI 1981.
    """
    if min(frames.shape[1:3]) < CELLS:
        return np.zeros((len(frames) - 1, 2 * CELLS**2), np.float32)
    grey = _smooth(_shrink(frames))
    down, right = _slopes((grey[1:] + grey[:-1]) / 2)
    change = np.diff(grey, axis=0)
    damping = DAMPING * grey[0].size / CELLS**2
    xx, yy, xy = (
        _sum(np.square(right)) + damping,
        _sum(np.square(down)) + damping,
        _sum(right * down),
    )
    x, y = -_sum(right * change), -_sum(down * change)
    moved = np.stack([yy * x - xy * y, xx * y - xy * x]) / (xx * yy - xy**2)
    return np.concatenate(list(moved), axis=1).astype(np.float32)


def _shrink(frames: NDArray[np.uint8]) -> Numbers:
    """Return brightness (T, h, w) in [0, 1]: means over squares of pixels."""
    block = max(1, min(frames.shape[1:3]) // SIDE)
    height, width = (size // block for size in frames.shape[1:3])
    inside = frames[:, : height * block, : width * block]
    squares = inside.reshape(len(frames), height, block, width, block, 3)
    means: Numbers = squares.mean(axis=(2, 4, 5)) / 255
    return means


def _smooth(grey: Numbers) -> Numbers:
    """Blur with 1, 2, 1 in both directions; slopes of sharp edges mislead."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    blurred: Numbers = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return blurred


def _slopes(grey: Numbers) -> tuple[Numbers, Numbers]:
    """Return how brightness (T, h, w) rises to the bottom and to the right."""
    return np.gradient(grey, axis=1), np.gradient(grey, axis=2)


def _sum(values: Numbers) -> Numbers:
    """Sum (T, h, w) over the cells of the grid: (T, CELLS**2)."""
    rows, columns = (
        np.linspace(0, size, CELLS, endpoint=False).astype(int) for size in values.shape[1:]
    )
    cells = np.add.reduceat(np.add.reduceat(values, rows, axis=1), columns, axis=2)
    return cells.reshape(len(values), CELLS**2)
