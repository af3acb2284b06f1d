"""Read pictures as a viewer shows them, upright and in 8-bit RGB."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3), turned by its EXIF orientation.

    Transparency is dropped and the stored colour kept. 16-bit grey is scaled to 8 bits.

    Raises:
        ValueError: The file is damaged, no picture, or too large.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            return _to_rgb(ImageOps.exif_transpose(picture))
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
