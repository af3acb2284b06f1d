"""Read pictures and videos as a viewer shows them, upright and in 8-bit RGB."""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.arrays import LARGEST

if TYPE_CHECKING:
    import av

log = logging.getLogger(__name__)

ONE = 1 << 16
"""The number one in a display matrix."""
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of HDR videos by their number in ITU-T H.273."""


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


def read_video(path: Path, count: int | None) -> NDArray[np.uint8]:
    """Return the first `count` frames (T, H, W, 3) of a video, turned by its display matrix.

    Only these frames are decoded; None decodes all.

    Raises:
        ValueError: The file is damaged or no video, its display matrix is no quarter turn, or the
            frames take more than `LARGEST` bytes.
    """
    import av

    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(path) as container:
            for frame in _decode(container):
                if not frames:
                    _warn_of_colours(path, frame)
                if len(frames) == count:
                    break
                if frame.is_corrupt:
                    raise ValueError(f"damaged data in frame {len(frames)}; copy the video again")
                frames.append(_to_array(frame))
                _check_growing(frames)
    except av.FFmpegError as error:
        raise ValueError(f"no readable video: {error}") from error
    if not frames:
        raise ValueError("no frames")
    return _stack(frames)


def turn(frame: NDArray[np.uint8], matrix: tuple[int, ...]) -> NDArray[np.uint8]:
    """Turn and mirror a frame (H, W, 3) by a display matrix.

    Args:
        frame: The stored frame.
        matrix: Nine numbers, row by row; they show pixel (x, y) at (a x + c y, b x + d y).

    Raises:
        ValueError: The matrix is not a quarter turn or a mirror.

    Source: ISO/IEC 14496-12, 6.2.2.
    """
    a, b, _, c, d = (round(value / ONE, 3) for value in matrix[:5])
    if {abs(a), abs(d)} == {0} and {abs(b), abs(c)} == {1}:
        a, d, frame = c, b, frame.swapaxes(0, 1)
    elif {abs(a), abs(d)} != {1} or {abs(b), abs(c)} != {0}:
        raise ValueError(
            f"a display matrix ({a}, {b}, {c}, {d}) that turns by no multiple of 90 degrees, or "
            "stretches; turn the video with a video editor first"
        )
    return np.ascontiguousarray(frame[:: int(d), :: int(a)])


def _decode(container: "av.container.InputContainer") -> Iterator["av.VideoFrame"]:
    if not container.streams.video:
        raise ValueError("no video stream")
    return container.decode(video=0)


def _to_rgb(picture: Any) -> NDArray[np.uint8]:
    """Return a Pillow picture as (H, W, 3)."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.float64) / 257  # 65535 becomes 255
        return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return np.array(picture.convert("RGB"), np.uint8)


def _to_array(frame: Any) -> NDArray[np.uint8]:
    """Return a PyAV frame as (H, W, 3), upright."""
    from av.sidedata.sidedata import Type

    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    return pixels if matrix is None else turn(pixels, struct.unpack("=9i", bytes(matrix)))


def _warn_of_colours(path: Path, frame: "av.VideoFrame") -> None:
    if frame.color_trc in HDR:
        log.warning(
            "%s is an HDR video (%s), so its colours are read paler than a viewer shows them; "
            "convert it to SDR (BT.709) first",
            *(path, HDR[frame.color_trc]),
        )


def _check_growing(frames: list[NDArray[np.uint8]]) -> None:
    if frames[-1].shape != frames[0].shape:
        raise ValueError(f"frames of two sizes, {frames[0].shape} and {frames[-1].shape}")
    if len(frames) * frames[0].nbytes > LARGEST:
        raise ValueError(
            f"more than {LARGEST / 2**30:g} GiB of frames ({frames[0].shape} each); cut the video, "
            "or read fewer frames with count="
        )


def _stack(frames: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Stack frames; each is removed from the list as it is copied, so memory holds it once."""
    stacked = np.empty((len(frames), *frames[0].shape), np.uint8)
    for place in reversed(range(len(frames))):
        stacked[place] = frames.pop()
    return stacked
