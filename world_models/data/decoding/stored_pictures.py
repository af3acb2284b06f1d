"""Frames that a Parquet file stores as JPEG or PNG files, one in a row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.decoding.encoded import decode_picture
from v2w_gym.world_models.data.decoding.parquet import read_pictures
from v2w_gym.world_models.data.episode import Steps, rows_of

_NEAR = 64
"""Rows over which reading onwards is faster than to begin again."""


class StoredPictures:
    """T frames in consecutive rows of a column `{bytes, path}`.

    `encoded` reads the file once if it is called for every frame in order; the file stays open then
    from the first frame to the last one.

    Args:
        path: The Parquet file.
        name: Name of the column.
        first: Row of the first frame.
        count: Number of frames (T).
        folder: Folder to which paths of pictures outside the file are relative.
        origin: Name of the episode, for messages.
    """

    _rows: Iterator[dict[str, Any]]
    _next: int

    def __init__(
        self, path: Path, name: str, first: int, count: int, folder: Path, origin: str
    ) -> None:
        self._path = path
        self._name = name
        self._first = first
        self._count = count
        self._folder = folder
        self._origin = origin
        self._close()

    def __len__(self) -> int:
        """Return the number of frames (T)."""
        return self._count

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return the frames at `steps`, (n, H, W, 3) uint8.

        Raises:
            FileNotFoundError: A picture is missing.
            ValueError: The file or a picture is damaged, or pictures have different sizes.
        """
        frames = [self._decode(int(step)) for step in rows_of(steps, self._count)]
        self._close()
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
        stored = next(self._rows)
        if self._next == self._count:
            self._close()
        return self._to_bytes(stored, step)

    def _close(self) -> None:
        self._rows = iter(())  # an open file closes with its iterator
        self._next = self._count  # step of the row that `_rows` yields next

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
        picture = self.encoded(step)
        try:
            return decode_picture(picture)
        except ValueError as error:
            raise ValueError(
                f"expected a whole picture in {self._name}, step {step} of {self._origin}, found "
                f"{error}"
            ) from error
