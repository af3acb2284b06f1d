"""One picture of recorded frames above imagined ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLUMNS = 8
SCALE = 2
GAP = 4


def save_strips(
    path: Path, recorded: Sequence[NDArray[np.uint8]], imagined: Sequence[NDArray[np.uint8]]
) -> None:
    """Draw pairs of episodes (T, H, W, 3): each recorded one above its imagined twin."""
    pairs = []
    for real, dream in zip(recorded, imagined, strict=True):
        chosen = np.linspace(0, len(real) - 1, min(COLUMNS, len(real))).round().astype(int)
        rows = [np.concatenate(list(frames[chosen]), axis=1) for frames in (real, dream)]
        pairs.append(np.pad(np.concatenate(rows), ((0, GAP), (0, 0), (0, 0)), constant_values=255))
    picture = Image.fromarray(np.concatenate(pairs)[:-GAP])
    picture = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.BOX)
    picture.save(path)
