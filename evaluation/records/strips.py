"""Pictures of frames side by side, with labels and captions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLUMNS = 8
"""Most frames in a row."""
TILE = 128
"""Height of a frame in a picture, in pixels."""
LARGEST = 256
"""Largest height of a frame in a video of several, in pixels."""
LINE = 18
"""Height of a line of text, in pixels."""
GAP = 4


def choose_columns(length: int) -> list[int]:
    """Return which of `length` frames a picture shows: the first, the last and some between."""
    return [int(i) for i in np.linspace(0, length - 1, min(COLUMNS, length)).round()]


def draw_grid(
    rows: Sequence[NDArray[np.uint8]], labels: Sequence[str], captions: Sequence[str], title: str
) -> NDArray[np.uint8]:
    """Draw rows of frames under a title: one label before each row, one caption above each column.

    Args:
        rows: (T, H, W, 3) each, of one T, H and W.
        labels: One per row.
        captions: One per column (T).
        title: One or more lines.

    Returns:
        A picture (height, width, 3), uint8.
    """
    tiles = [[resize(frame, TILE) for frame in row] for row in rows]
    height, width = tiles[0][0].shape[:2]
    margin = max(write(label).shape[1] for label in labels)
    lines = 1 + max(caption.count("\n") for caption in captions)
    above = [
        write("", (lines * LINE, margin)),
        *(write(c, (lines * LINE, width)) for c in captions),
    ]
    lower = [
        join([write(label, (height, margin)), *row], axis=1)
        for label, row in zip(labels, tiles, strict=True)
    ]
    return join([write(title), join(above, axis=1), *lower], axis=0)


def draw_pairs(videos: NDArray[np.uint8], labels: Sequence[str]) -> NDArray[np.uint8]:
    """Join videos (B, T, H, W, 3) into one, in columns of two, each video under its label.

    Returns:
        One video (T, height, width, 3), uint8.
    """
    captions = [write(label) for label in labels]
    height = min(max(TILE, videos.shape[2]), LARGEST)
    moments = []
    for frames in videos.swapaxes(0, 1):
        cells = [
            join([caption, resize(frame, height)], axis=0)
            for caption, frame in zip(captions, frames, strict=True)
        ]
        pairs = [join(cells[i : i + 2], axis=0) for i in range(0, len(cells), 2)]
        moments.append(join(pairs, axis=1))
    return np.stack(moments)


def save_strips(
    path: Path, recorded: Sequence[NDArray[np.uint8]], imagined: Sequence[NDArray[np.uint8]]
) -> None:
    """Draw pairs of episodes (T, H, W, 3): each recorded one above its imagined twin."""
    columns = choose_columns(len(recorded[0]))
    pairs = zip(recorded, imagined, strict=True)
    rows = [frames[columns] for pair in pairs for frames in pair]
    captions = [f"step {column}" for column in columns]
    labels = ["recorded", "imagined"] * len(recorded)
    Image.fromarray(draw_grid(rows, labels, captions, path.stem)).save(path)


def write(text: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return text on a white picture of `size`, or as large as the text; centred vertically."""
    font = ImageFont.load_default(size=14)
    if size is None:
        lines = text.split("\n")
        size = len(lines) * LINE, round(max(map(font.getlength, lines))) + 2 * GAP
    picture = Image.new("RGB", size[::-1], "white")
    ImageDraw.Draw(picture).text((GAP, size[0] // 2), text, "black", font, anchor="lm")
    return np.array(picture)


def resize(frame: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Resize a frame (H, W, 3) to `height`; a small frame's pixels stay square and sharp."""
    width = round(frame.shape[1] * height / frame.shape[0])
    return np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))


def join(pictures: Sequence[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Put pictures below (axis 0) or beside (axis 1) each other, with white between them."""
    across = 1 - axis
    largest = max(picture.shape[across] for picture in pictures)
    padded = []
    for picture in pictures:
        after = [0, 0, 0]
        after[axis], after[across] = GAP, largest - picture.shape[across]
        padded.append(np.pad(picture, [(0, n) for n in after], constant_values=255))
    return np.concatenate(padded, axis=axis)
