"""Frames that a Parquet file stores as JPEG or PNG files, one in a row."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.episode import Steps
from v2w_gym.world_models.data.parquet import read_pictures

_NEAR = 64
"""Rows over which reading onwards is faster than to begin again."""


class StoredPictures:
    """T frames in consecutive rows of a column `{bytes, path}`.

    Reading them in order reads the file once.

    Args:
        path: The Parquet file.
        name: Name of the column.
        first: Row of the first frame.
        count: Number of frames (T).
        folder: Folder to which paths of pictures outside the file are relative.
        origin: Name of the episode, for messages.
    """

    def __init__(
        self, path: Path, name: str, first: int, count: int, folder: Path, origin: str
    ) -> None:
        self._path = path
        self._name = name
        self._first = first
        self._count = count
        self._folder = folder
        self._origin = origin
        self._rows: Iterator[dict[str, Any]] = iter(())
        self._next = count  # step of the row that `_rows` yields next

    def __len__(self) -> int:
        """Return the number of frames (T)."""
        return self._count

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return the frames at `steps`, (n, H, W, 3) uint8.

        Raises:
            FileNotFoundError: A picture is missing.
            ValueError: The file or a picture is damaged, or pictures have different sizes.
        """
        wanted = np.arange(self._count)[steps]
        frames = [self._decode(int(step)) for step in wanted]
        if len(sizes := {frame.shape for frame in frames}) > 1:
            raise ValueError(
                f"expected pictures of one size in {self._name} of {self._origin}, found "
                f"{sorted(size[:2] for size in sizes)}"
            )
        return np.stack(frames) if frames else self[:1][:0]

    def encoded(self, step: int) -> bytes:
        """Return the stored JPEG or PNG file of one frame.

        Raises:
            FileNotFoundError, ValueError: As for `__getitem__`.
        """
        step = range(self._count)[step]
        if not self._next <= step < self._next + _NEAR:
            self._rows = read_pictures(
                self._path, self._name, self._first + step, self._first + self._count
            )
            self._next = step
        for _ in range(self._next, step):
            next(self._rows)
        self._next = step + 1
        return self._to_bytes(next(self._rows), step)

    def _to_bytes(self, stored: Any, step: int) -> bytes:
        if not isinstance(stored, dict) or not (stored.get("bytes") or stored.get("path")):
            raise ValueError(
                f"expected a picture {{bytes, path}} in {self._name}, step {step} of "
                f"{self._origin}, found none"
            )
        if stored.get("bytes"):
            return stored["bytes"]
        path = self._folder / stored["path"]
        if not path.is_file():
            raise FileNotFoundError(
                f"expected the picture of step {step} of {self._origin} at {path}, found none; "
                "download the data set again"
            )
        return path.read_bytes()

    def _decode(self, step: int) -> NDArray[np.uint8]:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.encoded(step))) as picture:
                return np.array(picture.convert("RGB"), np.uint8)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"expected a whole picture in {self._name}, step {step} of {self._origin}, found "
                f"this: {error}"
            ) from error
