"""Frames of videos as a viewer shows them, upright and in 8-bit RGB, decoded on demand."""

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.decoding.arrays import LARGEST, reading
from v2w_gym.world_models.data.episode import Steps, rows_of

log = logging.getLogger(__name__)

ONE = 1 << 16
"""The number one in a display matrix."""
HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of HDR videos by their number in ITU-T H.273."""


class VideoFile:
    """The frames of a video file; see `Frames`.

    A frame is found by its time stamp: decoding begins at the keyframe before it, so that any frame
    is exact and costs at most one group of pictures.

    Attributes:
        path: The file.
        rate: Frames per second; None if the file does not say.
    """

    def __init__(self, path: Path) -> None:
        """Index a video; nothing is decoded.

        Raises:
            ValueError: The file is damaged or no video.
        """
        self.path = path
        with self._opened() as (container, stream):
            _warn_of_colours(path, stream)
            self.rate = None if stream.average_rate is None else float(stream.average_rate)
            self._times, self._keys = _index(container, stream)

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._times)

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return some frames; see `Frames`."""
        rows = rows_of(steps, len(self))
        wanted, places = np.unique(rows, return_inverse=True)
        with self._opened() as (container, stream):
            found = self._read(container, stream, wanted if len(wanted) else np.zeros(1, np.int64))
        in_order = len(rows) == len(wanted) and (np.diff(rows) > 0).all()
        return found[: len(rows)] if in_order else found[places]

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Open the file and its first video stream; errors become one line."""
        import av

        with reading(self.path, f"a recording at {self.path}"):
            try:
                with av.open(self.path, metadata_errors="replace") as container:
                    yield container, _find_stream(container)
            except av.FFmpegError as error:
                raise ValueError(f"no readable video: {error}") from error

    def _read(self, container: Any, stream: Any, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Decode the frames at `wanted`, which are unique and in order."""
        found: NDArray[np.uint8] | None = None
        decoded = self._decode(container, stream, wanted)
        for place, frame in enumerate(decoded):
            pixels = _to_array(frame)
            if found is None:
                found = _room(len(wanted), pixels)
            if pixels.shape != found.shape[1:]:
                raise ValueError(f"frames of two sizes, {found.shape[1:]} and {pixels.shape}")
            found[place] = pixels
        assert found is not None, "at least one frame is wanted"
        return found

    def _decode(self, container: Any, stream: Any, wanted: NDArray[np.int64]) -> Iterator[Any]:
        """Yield the decoded frame of each wanted step."""
        reached, frames = -1, self._after(container, stream, 0)
        for step in wanted:
            key = self._keys[step]
            if reached < 0 or key > reached + 1:
                container.seek(int(self._times[key]), stream=stream)
                frames, reached = self._after(container, stream, key), key - 1
            for frame in frames:
                reached += 1
                if frame.is_corrupt or frame.pts != self._times[reached]:
                    raise ValueError(f"damaged data in frame {reached}; copy or convert it again")
                if reached == step:
                    yield frame
                    break
            else:
                raise ValueError(f"damaged data in frame {reached + 1}; copy or convert it again")

    def _after(self, container: Any, stream: Any, key: int) -> Iterator[Any]:
        """Yield the decoded frames from a keyframe on."""
        for frame in container.decode(stream):
            if frame.pts is not None and frame.pts >= self._times[key]:
                yield frame


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


def _find_stream(container: Any) -> Any:
    """Return the first video stream."""
    if not container.streams.video:
        raise ValueError("no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ValueError("a video with an unknown codec; convert it to H.264")
    return stream


def _index(container: Any, stream: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the time stamps (T,) of all shown frames, and the keyframe (T,) before each."""
    packets = [
        (packet.pts, packet.is_keyframe, packet.is_discard)  # not its data
        for packet in container.demux(stream)
        if packet.size
    ]
    shown = [(pts, is_key) for pts, is_key, hidden in packets if not hidden]
    if not shown:
        raise ValueError("no frames")
    if len(packets) < stream.frames:
        raise ValueError(f"{len(packets)} of {stream.frames} frames; copy the video again")
    if any(pts is None for pts, _ in shown):
        raise ValueError("frames without time stamps; convert the video again")
    times = np.unique([pts for pts, _ in shown])
    if len(times) < len(shown):
        raise ValueError("two frames with the same time stamp; convert the video again")
    keys = np.unique([pts for pts, is_key in shown if is_key])
    steps = np.searchsorted(times, keys)
    before = np.searchsorted(steps, np.arange(len(times)), side="right") - 1
    return times, np.where(before < 0, 0, steps[before] if len(steps) else 0)


def _room(count: int, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Allocate memory for `count` frames."""
    if count * frame.nbytes > LARGEST:
        raise ValueError(
            f"more than {LARGEST / 2**30:g} GiB of frames ({count:,} of {frame.shape}); cut the "
            "video, or read fewer frames"
        )
    return np.empty((count, *frame.shape), np.uint8)


def _to_array(frame: Any) -> NDArray[np.uint8]:
    """Return a PyAV frame as (H, W, 3), upright."""
    from av.sidedata.sidedata import Type

    pixels: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    return pixels if matrix is None else turn(pixels, struct.unpack("=9i", bytes(matrix)))


def _warn_of_colours(path: Path, stream: Any) -> None:
    transfer = stream.codec_context.color_trc
    if transfer in HDR:
        log.warning(
            "%s is an HDR video (%s), so its colours are read paler than a viewer shows them; "
            "convert it to SDR (BT.709) first",
            *(path, HDR[transfer]),
        )
