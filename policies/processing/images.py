"""Crop and resize camera frames for a policy."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import ProcessingConfig

Frames: TypeAlias = NDArray[np.uint8]
Size: TypeAlias = tuple[int, int]

CANVAS: Size = (320, 512)
CONTENT = slice(56, 456)
"""Height and width of Vid2World's frames, and their 400 of 512 columns with content."""
NEARLY_BLACK = 16
"""Largest mean of a bar that counts as black; a decoder does not return exact zeros."""
BLACK = 8
"""Largest pixel value in a bar of a policy's frame; video compression does not keep exact zeros."""
BAR_SHARE = 0.03
"""Share of a side that must be black at both its ends to count as bars."""
ASPECT_TOLERANCE = 0.02


def crop_bars(frames: Frames) -> Frames:
    """Return the content (B, 320, 400, 3) of Vid2World's frames (B, 320, 512, 3).

    Raises:
        ValueError: Frames of another size.
    """
    if frames.shape[1:3] != CANVAS:
        raise ValueError(
            f"expected frames of 320 x 512 pixels with black columns left and right for crop=bars, "
            f"found {_text(frames.shape[1:3])}; use crop=none for frames without bars"
        )
    return frames[:, :, CONTENT]


def keep_all(frames: Frames) -> Frames:
    """Return `frames` unchanged."""
    return frames


CROPS: Mapping[str, Callable[[Frames], Frames]] = {
    "none": keep_all,
    "keep_bars": keep_all,
    "bars": crop_bars,
}


def bilinear(frames: Frames, size: Size) -> Frames:
    """Resize as tf.image.resize does by default, rounded to the nearest integers."""
    return np.rint(_bilinear(frames, size)).astype(np.uint8)


def bilinear_trunc(frames: Frames, size: Size) -> Frames:
    """Resize as tf.image.resize does by default and cut to integers, as SimplerEnv does."""
    return _bilinear(frames, size).astype(np.uint8)


def lanczos3(frames: Frames, size: Size) -> Frames:
    """Resize as tf.image.resize does with "lanczos3" and antialias, rounded and clipped."""
    rows = _lanczos3_weights(frames.shape[1], size[0])
    columns = _lanczos3_weights(frames.shape[2], size[1])
    batch, height, width, colours = frames.shape
    once = rows @ frames.reshape(batch, height, width * colours).astype(np.float64)
    turned = once.reshape(batch, size[0], width, colours).swapaxes(1, 2)  # (B, W, h, 3)
    twice = columns @ turned.reshape(batch, width, size[0] * colours)
    values = twice.reshape(batch, size[1], size[0], colours).swapaxes(1, 2)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def resize_with_pad(frames: Frames, size: Size) -> Frames:
    """Resize with the aspect ratio kept, centred on black, as openpi's clients do.

    Source: openpi-client 0.1.2, `image_tools.resize_with_pad`. It uses Pillow's bilinear filter
    with antialiasing, and rounds sizes and margins down.
    """
    shrink = max(frames.shape[1] / size[0], frames.shape[2] / size[1])
    height, width = (max(int(side / shrink), 1) for side in frames.shape[1:3])
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padded = np.zeros((len(frames), *size, 3), np.uint8)
    for frame, place in zip(frames, padded, strict=True):
        resized = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        place[top : top + height, left : left + width] = np.asarray(resized)
    return padded


RESIZES: Mapping[str, Callable[[Frames, Size], Frames]] = {
    "bilinear": bilinear,
    "bilinear_trunc": bilinear_trunc,
    "lanczos3": lanczos3,
    "resize_with_pad": resize_with_pad,
}
"""Frames (B, H, W, 3) and a height and width -> frames (B, h, w, 3)."""


def preprocess_frames(frames: Frames, size: Size | None, cfg: ProcessingConfig) -> Frames:
    """Crop frames (B, H, W, 3) and resize them to a policy's `size`; None keeps their size.

    Raises:
        ValueError: An unknown rule, frames without bars to crop, or another aspect ratio.
    """
    frames = lookup(CROPS, cfg.crop, "crop")(frames)
    resize = lookup(RESIZES, cfg.resize, "resize")
    found: Size = frames.shape[1:3]
    if size is None or size == found:
        return frames
    distortion = (found[1] * size[0]) / (found[0] * size[1])
    may_differ = cfg.stretch or cfg.resize == "resize_with_pad"
    if not may_differ and abs(distortion - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"expected frames with the aspect ratio of the policy's {_text(size)} pixels, found "
            f"{_text(found)}; cut what is too much off (crop=bars for Vid2World's frames), or set "
            "stretch=true if the policy was trained on stretched frames, or resize=resize_with_pad "
            "if on padded ones"
        )
    return resize(frames, size)


def bar_brightness(frames: Frames, cfg: ProcessingConfig) -> NDArray[np.float64]:
    """Return the mean (B,) of the brighter of the bars that `cfg` crops off (B, H, W, 3)."""
    if cfg.crop != "bars":
        return np.zeros(len(frames))
    left, right = frames[:, :, : CONTENT.start], frames[:, :, CONTENT.stop :]
    brighter: NDArray[np.float64] = np.maximum(left.mean((1, 2, 3)), right.mean((1, 2, 3)))
    return brighter


def check_bars(frames: Frames, cfg: ProcessingConfig) -> None:
    """Check that cropping frames (B, H, W, 3) removes black bars alone, and leaves none.

    In frames with bars, a policy sees everything smaller or shifted, and its success rate drops
    without an error. A frame that is entirely black has no bars.

    Raises:
        ValueError: A cropped bar is not black, or the rest has black rows above and below or black
            columns left and right.
    """
    if cfg.crop == "keep_bars":
        return
    cropped = lookup(CROPS, cfg.crop, "crop")(frames)
    brightest = bar_brightness(frames, cfg).max(initial=0)
    if brightest > NEARLY_BLACK:
        raise ValueError(
            "expected black columns 0 to 55 and 456 to 511 for crop=bars, found a mean of "
            f"{brightest:.0f}; use crop=none for frames without bars"
        )
    for frame in cropped:
        for across, lines in ((1, "rows above and below"), (0, "columns left and right")):
            lit = np.flatnonzero((frame > BLACK).any(axis=(across, 2)))
            side = frame.shape[1 - across]
            least = BAR_SHARE * side
            if len(lit) and lit[0] >= least and side - 1 - lit[-1] >= least:
                raise ValueError(
                    f"expected frames without black bars, found black {lines} ({lit[0]} and "
                    f"{side - 1 - lit[-1]} of {side} pixels); set crop=bars for Vid2World's "
                    "320 x 512 frames, crop them yourself, or set crop=keep_bars if the policy "
                    "was trained with them"
                )


def _bilinear(frames: Frames, size: Size) -> NDArray[np.float32]:
    # a + (b - a) * part, columns first, is TensorFlow's order of operations. With another order,
    # rounding to integers would give other pixels.
    low, high, part = _neighbours(frames.shape[2], size[1])
    left = frames[:, :, low].astype(np.float32)
    mixed = left + (frames[:, :, high] - left) * part[:, None]
    low, high, part = _neighbours(frames.shape[1], size[0])
    return mixed[:, low] + (mixed[:, high] - mixed[:, low]) * part[:, None, None]


def _neighbours(
    found: int, wanted: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return the pixels on both sides of each new pixel's centre, and its distance to the first."""
    scale = np.float32(found) / np.float32(wanted)
    centres = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    low = np.floor(centres)
    part = (centres - low).astype(np.float32)
    first, last = low.astype(np.intp), np.ceil(centres).astype(np.intp)
    return np.maximum(first, 0), np.minimum(last, found - 1), part


def _lanczos3_weights(found: int, wanted: int) -> NDArray[np.float32]:
    """Return the weight of each pixel in each new pixel: (wanted, found), rows sum to 1.

    It uses single precision and TensorFlow's shortcut at the kernel's centre. With exact weights,
    many more pixels differ from TensorFlow's after rounding.
    """
    one, three, pi = np.float32(1), np.float32(3), np.float32(np.pi)
    scale = one / (np.float32(wanted) / np.float32(found))
    centres = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale
    # Antialias: stretch the kernel by the shrinking factor.
    away = np.arange(found, dtype=np.float32) + np.float32(0.5) - centres[:, None]
    away = np.abs(away * (one / max(scale, one)))
    middle = away < np.float32(1e-3)
    angle = pi * np.where(middle, one, away)
    weights = three * np.sin(angle) * np.sin(angle / three) / angle**2
    weights = np.where(middle, one, np.where(away < three, weights, np.float32(0)))
    normalised: NDArray[np.float32] = weights / weights.sum(1, keepdims=True)
    return normalised


def _text(size: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in size)
