"""Read pictures as a viewer shows them, upright and in 8-bit RGB."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.decoding.arrays import reading
from v2w_gym.world_models.data.episode import Steps, rows_of

PICTURES = (".png", ".jpg", ".jpeg")
"""Endings of pictures."""
STORED = ("JPEG", "PNG")
"""Formats of pictures that are copied without loss."""
ORIENTATION = 0x0112
"""Number of the EXIF field; 1 is upright."""


@dataclass(frozen=True)
class PictureFrames:
    """Frames that are a picture file each; see `EncodedFrames`.

    Attributes:
        paths: The files, in order.
    """

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.paths)

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return some frames; see `Frames`."""
        rows = rows_of(steps, len(self))
        found: NDArray[np.uint8] | None = None
        for place, row in enumerate(rows if len(rows) else [0]):
            frame = _read(self.paths[row])
            if found is None:
                found = np.empty((len(rows), *frame.shape), np.uint8)
            if frame.shape != found.shape[1:]:
                raise ValueError(
                    f"expected pictures of one size in {self.paths[row].parent}, found "
                    f"{found.shape[1:3]} in {self.paths[rows[0]].name} and {frame.shape[:2]} in "
                    f"{self.paths[row].name}"
                )
            found[place : place + 1] = frame
        assert found is not None, "at least one picture is read"
        return found

    def encoded(self, step: int) -> bytes:
        """Return a JPEG or PNG file of a frame: the stored one if every reader sees it alike.

        A turned, grey or transparent picture, or one of 16 bits, becomes a PNG of its frame.

        Raises:
            ValueError: The picture is damaged.
        """
        from PIL import Image

        path = self.paths[step]
        with reading(path, f"a recording at {path}"), _opened(path) as picture:
            upright = picture.getexif().get(ORIENTATION, 1) == 1
            if picture.format in STORED and picture.mode == "RGB" and upright:
                return path.read_bytes()
        file = io.BytesIO()
        Image.fromarray(_read(path)).save(file, "PNG")
        return file.getvalue()


def _read(path: Path) -> NDArray[np.uint8]:
    with reading(path, f"a recording at {path}"):
        return read_picture(path)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3), turned by its EXIF orientation.

    Transparency is dropped and the stored colour kept. 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: The file is damaged, no picture, or too large.
    """
    from PIL import ImageOps

    with _opened(path) as picture:
        return _to_rgb(ImageOps.exif_transpose(picture))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a picture; errors of damaged ones become `ValueError`."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            yield picture
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"a damaged picture: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"a picture that is too large: {error}") from error


def _to_rgb(picture: Any) -> NDArray[np.uint8]:
    """Return a Pillow picture as (H, W, 3)."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.float64) / 257  # 65535 becomes 255
        return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(picture.convert("RGB"), np.uint8)
