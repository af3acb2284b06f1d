"""Read what a camera recorded: a picture, a video, an array of frames, or an episode."""

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.lookup import hint, lookup
from world_models.data.episodes import load_episode


@dataclass(frozen=True)
class Recording:
    """What was seen and, where it is known, done.

    Attributes:
        frames: (T, H, W, 3) uint8; a picture is a recording of one frame.
        actions: (T - 1, A) float32; `actions[t]` was taken at frame t and led to frame t + 1. None
            where the file holds no actions.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32] | None = None


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read a file by its type.

    - .png, .jpg: a picture
    - .mp4: a video
    - .npy: a frame (H, W, 3) or frames (T, H, W, 3)
    - .npz: an episode of `world_models.data.episodes`, or one in the layout of Vid2World's RT-1
      converter: `image` (T, H, W, 3) and, if it is there, `action` (T, A), of which the last row
      leads nowhere

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another file type, or contents that are damaged or no recording.
    """
    path = Path(path)
    reader = lookup(READERS, path.suffix.lower(), f"the file type of recording {str(path)!r}")
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"expected a recording at {path}, found no such file{hint(path.name, beside)}"
        )
    try:
        return _checked(reader(path))
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"expected a recording at {path}, found {error}") from error


def _checked(recording: Recording) -> Recording:
    """Return a recording whose parts are of the right type and fit together."""
    frames, actions = recording.frames, recording.actions
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"{frames.dtype} {frames.shape}, not uint8 frames (T, H, W, 3) with T > 0")
    if actions is not None and (actions.ndim != 2 or len(actions) != len(frames) - 1):
        raise ValueError(f"actions of shape {actions.shape} between {len(frames)} frames")
    return recording


def _read_picture(path: Path) -> Recording:
    from PIL import Image

    with Image.open(path) as picture:
        return Recording(np.array(picture.convert("RGB"), np.uint8)[None])


def _read_video(path: Path) -> Recording:
    import av

    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ValueError("no video stream")
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except av.FFmpegError as error:
        raise ValueError(f"no readable video: {error}") from error
    return Recording(np.array(frames, np.uint8))


def _read_arrays(path: Path) -> Recording:
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return Recording(loaded[None] if loaded.ndim == 3 else loaded)
    with loaded:
        names = set(loaded.files)
        if "image" in names:
            return _converted(loaded["image"], loaded["action"] if "action" in names else None)
    if "meta" not in names:
        raise ValueError(f"arrays {sorted(names)}, neither an episode's nor `image` and `action`")
    episode = load_episode(path)
    return Recording(episode.frames, episode.actions)


def _converted(frames: NDArray[np.uint8], actions: NDArray[Any] | None) -> Recording:
    """Turn the arrays of Vid2World's RT-1 converter, one action per frame, into a recording."""
    if actions is None:
        return Recording(frames)
    if actions.ndim != 2 or len(actions) != len(frames):
        raise ValueError(f"`action` {actions.shape} for `image` {frames.shape}")
    return Recording(frames, actions[:-1].astype(np.float32))


READERS: Mapping[str, Callable[[Path], Recording]] = {
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
    ".mp4": _read_video,
    ".npy": _read_arrays,
    ".npz": _read_arrays,
}
