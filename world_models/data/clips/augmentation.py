"""Random changes of a clip's colours and position, the same for all of its frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.configs.clips import AugmentationConfig

RAMP = Image.frombytes("L", (256, 1), bytes(range(256)))
"""A picture of every grey level once, which a change turns into the table of that change."""


@dataclass(frozen=True)
class Augmentation:
    """The changes of one clip.

    Attributes:
        down: Rows that frames move down.
        right: Columns that frames move to the right.
        brightness: Factor of the brightness.
        contrast: Factor of the differences from the mean grey level of a frame.
        saturation: Factor of the differences from grey of the same brightness.
        hue: Turn of the colour circle, as a share of the whole.
    """

    down: int = 0
    right: int = 0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


def draw_augmentation(cfg: AugmentationConfig, rng: np.random.Generator) -> Augmentation:
    """Draw the changes of one clip, each uniformly."""
    down, right = rng.integers(-cfg.shift, cfg.shift, 2, endpoint=True)
    largest = np.array([cfg.brightness, cfg.contrast, cfg.saturation, cfg.hue])
    brightness, contrast, saturation, hue = rng.uniform(-largest, largest)
    return Augmentation(
        *(int(down), int(right)), 1 + brightness, 1 + contrast, 1 + saturation, float(hue)
    )


def augment(frames: NDArray[np.uint8], drawn: Augmentation) -> NDArray[np.uint8]:
    """Return frames (T, H, W, 3) with the same changes in each.

    The order is fixed: shift, brightness, contrast, saturation, hue. The result equals that of
    torchvision's functions for PIL images.

    Source: Vid2World's released data sets.
    """
    moved = shift(frames, drawn.down, drawn.right)
    return np.stack([np.asarray(_recolour(Image.fromarray(frame), drawn)) for frame in moved])


def shift(frames: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Move frames (T, H, W, 3); the edge is mirrored, without a repetition of its outmost pixels.

    This equals a reflecting pad and a crop to the old size.
    """
    rows, columns = (
        _mirrored(size, offset)
        for size, offset in zip(frames.shape[1:3], (down, right), strict=True)
    )
    return np.ascontiguousarray(frames[:, rows[:, None], columns]) if down or right else frames


def _mirrored(size: int, offset: int) -> NDArray[np.int64]:
    """Return the index that each place of an axis shows after a move by `offset`."""
    wanted = np.abs(np.arange(size) - offset)
    return np.minimum(wanted, 2 * (size - 1) - wanted)


def _recolour(image: Image.Image, drawn: Augmentation) -> Image.Image:
    # brightness and contrast change each value by itself, so a table gives the same bits, faster
    image = image.point(_table(0, drawn.brightness) * 3)
    image = image.point(_table(_mean_grey(image), drawn.contrast) * 3)
    grey = image.convert("L").convert("RGB")
    return _turn_hue(Image.blend(grey, image, drawn.saturation), drawn.hue)


def _table(anchor: int, factor: float) -> bytes:
    """Return anchor + factor (level - anchor) for each grey level, as Pillow rounds it."""
    return Image.blend(Image.new("L", RAMP.size, anchor), RAMP, factor).tobytes()


def _mean_grey(image: Image.Image) -> int:
    return int(float(np.asarray(image.convert("L")).mean()) + 0.5)


def _turn_hue(image: Image.Image, hue: float) -> Image.Image:
    """Turn the colour circle; the hue is a byte that overflows on purpose."""
    if not hue:
        return image
    turn = int(hue * 255)
    table = bytes((level + turn) % 256 for level in range(256))
    whole = bytes(range(256)) * 2
    return image.convert("HSV").point(table + whole).convert("RGB")
