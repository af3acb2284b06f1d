"""Rollout videos: small, playable in any browser, and exact enough to be judged again.

H.264 stores colour at half the resolution of brightness, which would smear small frames. So each
pixel is stored as 2 x 2 brightness values and one colour value. The conversion happens here,
because the codec's own filters would mix neighbouring pixels. Decoded frames differ from the
originals by half a grey level on average.
"""

import io
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.files import replacing

FORMAT = "v2w-video-1"
QUALITY = 4
"""H.264 constant rate factor: 0 is lossless, 51 is worst."""
FILM_QUALITY = 14
"""The same for a film, which only people watch."""
TO_YUV = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ],
    np.float32,
) * np.array([[219 / 255], [224 / 255], [224 / 255]], np.float32)
"""RGB to limited-range YUV. Source: ITU-R BT.601."""
OFFSET = np.array([16, 128, 128], np.float32)


def write_video(path: Path, frames: NDArray[np.uint8], fps: float) -> None:
    """Write frames (T, H, W, 3) as an H.264 file; it appears whole or not at all.

    Raises:
        ValueError: Frames of another type or shape.
        OSError: The disk is full or the folder cannot be written.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(
            f"expected uint8 frames (T, H, W, 3), T > 0, found {frames.dtype} {frames.shape}"
        )
    with replacing(path) as partial:
        partial.write_bytes(_encode(frames, fps))


def write_film(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Write pictures (H, W, 3) of one even size as an H.264 file that any player shows.

    Only one picture is in memory at a time. Colours come back a little smoothed.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264",
            rate=Fraction(fps).limit_denominator(1000),
            options={"crf": str(FILM_QUALITY), "preset": "veryfast", "threads": "1"},
        )
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def read_video(path: Path) -> NDArray[np.uint8]:
    """Return the frames (T, H, W, 3) of a file that `write_video` wrote.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file, or one from another program.
    """
    try:
        with av.open(io.BytesIO(path.read_bytes()), "r") as container:
            written_by = container.metadata.get("comment")
            frames = [frame.to_ndarray() for frame in container.decode(video=0)]
            planes = np.stack(frames).astype(np.uint8, copy=False)
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(f"expected a whole video at {path}, found {error}") from error
    if written_by != FORMAT:
        raise ValueError(f"expected a {FORMAT} file at {path}, found {written_by!r}")
    return _to_rgb(planes)


def _encode(frames: NDArray[np.uint8], fps: float) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = FORMAT
        stream = container.add_stream(
            "libx264",
            rate=round(fps),
            options={"crf": str(QUALITY), "preset": "veryfast", "threads": "1"},
        )
        stream.height, stream.width = 2 * frames.shape[1], 2 * frames.shape[2]
        stream.pix_fmt = "yuv420p"
        for plane in _to_planes(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(plane, format="yuv420p")))
        container.mux(stream.encode())
    return file.getvalue()


def _to_planes(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn (T, H, W, 3) into the planes of frames twice as large: (T, 3 H, 2 W)."""
    length, height, width, _ = frames.shape
    yuv = np.rint(frames @ TO_YUV.T + OFFSET).astype(np.uint8)
    large = yuv[..., 0].repeat(2, axis=1).repeat(2, axis=2)
    parts = [large, yuv[..., 1], yuv[..., 2]]
    flat = np.concatenate([part.reshape(length, -1) for part in parts], axis=1)
    return flat.reshape(length, 3 * height, 2 * width)


def _to_rgb(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo `_to_planes`."""
    length, height, width = len(planes), planes.shape[1] // 3, planes.shape[2] // 2
    flat, size = planes.reshape(length, -1), height * width
    large = flat[:, : 4 * size].reshape(length, height, 2, width, 2)
    colour = flat[:, 4 * size :].reshape(length, 2, height, width)
    yuv = np.stack([large.mean(axis=(2, 4), dtype=np.float32), colour[:, 0], colour[:, 1]], axis=-1)
    rgb = (yuv - OFFSET) @ np.linalg.inv(TO_YUV).T
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
