"""Augment training windows with small shifts of their frames."""

import numpy as np
from numpy.typing import NDArray

PAD_ROWS, PAD_COLUMNS = 20 / 256, 50 / 320
"""Black border above and left of a frame, as a share of its height and width. Source: RT-1."""


def shift(frames: NDArray[np.uint8], largest: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Shift each window of (B, T, H, W, 3) by up to `largest` pixels; the edge is repeated.

    All frames of a window have the same shift.
    """
    batch, _, height, width, _ = frames.shape
    offset = rng.integers(-largest, largest + 1, (2, batch, 1))
    rows = np.clip(np.arange(height) + offset[0], 0, height - 1)  # (B, H)
    columns = np.clip(np.arange(width) + offset[1], 0, width - 1)  # (B, W)
    window = np.arange(batch)[:, None, None]
    moved = frames.swapaxes(0, 1)[:, window, rows[:, :, None], columns[:, None, :]]
    return np.ascontiguousarray(moved.swapaxes(0, 1))


def pad_crop(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add a black border to (B, T, H, W, 3), and crop at random to the old size.

    All frames of the batch have the same crop. Source: RT-1's public code.
    """
    height, width = frames.shape[2:4]
    border_y, border_x = round(height * PAD_ROWS), round(width * PAD_COLUMNS)
    y, x = rng.integers(0, (2 * border_y, 2 * border_x), endpoint=True)
    borders = ((0, 0), (0, 0), (border_y, border_y), (border_x, border_x), (0, 0))
    return np.pad(frames, borders)[:, :, y : y + height, x : x + width]
