"""Frames of a video by time, as LeRobot finds them; only what is needed is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.text import printable
from v2w_gym.world_models.data.episode import Steps, rows_of
from v2w_gym.world_models.downloads import check_present

if TYPE_CHECKING:
    import av

TOLERANCE = 1e-4
"""Most seconds between the time that is asked for and the frame's own. Source: LeRobot's
`tolerance_s`."""
REACH = 1.0
"""Seconds to decode onwards before a seek may be faster."""


@dataclass(frozen=True)
class VideoFrames:
    """T frames of a video.

    Attributes:
        path: The video; it may hold other episodes, too.
        times: (T,) seconds from the video's beginning, increasing.
        origin: Name of the episode, for messages.
        whole: Whether the video holds these frames alone.
    """

    path: Path
    times: NDArray[np.float64]
    origin: str
    whole: bool

    def __len__(self) -> int:
        """Return the number of frames (T)."""
        return len(self.times)

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return the frames at `steps`, (n, H, W, 3) uint8.

        Raises:
            FileNotFoundError: No such video.
            ValueError: The video is damaged, lacks a frame, or has another number of frames.
        """
        wanted = rows_of(steps, len(self))
        distinct, places = np.unique(wanted, return_inverse=True)
        with _open_video(self.path, self.origin) as (container, stream):
            self._check_count(stream)
            frames = self._decode(_Decoder(container, stream), stream, distinct)
        return frames if np.array_equal(wanted, distinct) else frames[places]

    def _decode(
        self, decoder: "_Decoder", stream: "av.VideoStream", steps: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        size = (stream.height, stream.width, 3)
        frames = np.empty((len(steps), *size), np.uint8)
        for place, step in enumerate(steps):
            frame = decoder.frame_at(self.times[step])
            if frame is None:
                raise ValueError(
                    f"expected a frame at {self.times[step]:.4f} s in {self.path} (step {step} of "
                    f"{self.origin}), found {decoder.found}; the video is damaged, or belongs to "
                    "other rows"
                )
            pixels = frame.to_ndarray(format="rgb24")
            if pixels.shape != size:
                raise ValueError(
                    f"expected frames of one size in {self.path}, found {size[:2]} and "
                    f"{pixels.shape[:2]}"
                )
            frames[place] = pixels
        return frames

    def _check_count(self, stream: "av.VideoStream") -> None:
        if self.whole and stream.frames and stream.frames != len(self):
            raise ValueError(
                f"expected {len(self)} frames in {self.path}, as many as {self.origin} has rows, "
                f"found {stream.frames}"
            )


class _Decoder:
    """Decodes the frames of a stream in the order of their times, and seeks over gaps."""

    def __init__(self, container: "av.container.InputContainer", stream: "av.VideoStream") -> None:
        self._container = container
        self._stream = stream
        self._unit = float(stream.time_base or 1)  # seconds
        self._frames: Iterator[Any] = iter(())
        self._now: Any = None  # the newest frame
        self._key = 0.0  # time of the newest key frame
        self._is_damaged = False  # in a frame since the newest key frame
        self._reach = REACH

    def frame_at(self, time: float) -> Any:
        """Return the frame at `time`, which must not be before the last one.

        None if there is no such frame, or if it or one to which it may refer is damaged.
        """
        tolerance = TOLERANCE + float(np.spacing(np.float32(time)))  # rows hold float32 times
        if self._now is None or time > self._time() + self._reach:
            self._seek(time)
        while self._now is not None and self._time() < time - tolerance:
            self._advance()
        if self._now is None or self._is_damaged or self._time() > time + tolerance:
            return None
        return self._now

    @property
    def found(self) -> str:
        """What was found last, for messages."""
        if self._now is None:
            return "the end of the video"
        return f"{'damaged data' if self._is_damaged else 'the next'} at {self._time():.4f} s"

    def _time(self) -> float:
        return self._now.pts * self._unit

    def _advance(self) -> None:
        self._now = next(self._frames, None)
        if self._now is None:
            return
        if self._now.key_frame:
            self._key, self._is_damaged = self._time(), False
        self._is_damaged |= self._now.is_corrupt
        # A seek leads back to a key frame. Where key frames are rare, going on is faster.
        self._reach = max(self._reach, self._time() - self._key)

    def _seek(self, time: float) -> None:
        """Go to a key frame that is shown at `time` or before.

        Containers seek by the time at which frames are decoded. Where frames refer to later ones,
        that is earlier than the time at which they are shown, so the key frame may be too late.
        """
        wanted, back = round(time / self._unit), 1
        while True:
            self._container.seek(wanted - back, stream=self._stream)
            packets = self._container.demux(self._stream)
            first = next(packets)
            if first.pts is None or first.pts <= wanted or back > wanted:
                break
            back += back
        self._key = (first.pts or 0) * self._unit
        shown = (frame for packet in chain([first], packets) for frame in packet.decode())
        self._frames = (frame for frame in shown if frame.pts is not None)
        self._advance()


@contextmanager
def _open_video(path: Path, origin: str) -> Iterator[tuple[Any, Any]]:
    """Open a video; errors of reading it become one line."""
    import av

    check_present(path)
    try:
        with av.open(path, metadata_errors="replace") as container:
            yield container, _find_stream(container, path)
    except av.FFmpegError as error:
        raise ValueError(
            f"expected a whole video of {origin} at {path}, found this: "
            f"{printable(str(error), 200)}; copy it again"
        ) from error


def _find_stream(container: "av.container.InputContainer", path: Path) -> "av.VideoStream":
    streams = container.streams.video
    if not streams or streams[0].codec_context is None or not streams[0].height:
        raise ValueError(
            f"expected a whole video at {path}, found no video stream that can be decoded; copy it "
            "again"
        )
    return streams[0]
