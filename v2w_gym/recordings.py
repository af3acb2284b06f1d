"""Read camera recordings: pictures, videos, arrays of frames, and episodes."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.text import to_path
from v2w_gym.pictures import read_picture, read_video
from v2w_gym.world_models.data.arrays import array_header, read_array, reading
from v2w_gym.world_models.data.recording import Recording, check_frames, load_recording

__all__ = ["READERS", "Recording", "read_recording"]


def read_recording(path: str | os.PathLike[str], *, count: int | None = None) -> Recording:
    """Read a file by its type.

    - .png, .jpg: a picture, turned by its EXIF orientation; transparency is dropped, and 16 bits
      are scaled to 8
    - .mp4: a video, turned by its display matrix; an HDR video gives a warning
    - .npy: a frame (H, W, 3) or frames (T, H, W, 3)
    - .npz: an episode of `v2w_gym.world_models.data.episodes`, or one that Vid2World's RT-1
      converter wrote; see `v2w_gym.world_models.data.recording.load_recording`

    No file may take more than `v2w_gym.world_models.data.arrays.LARGEST` bytes of memory.

    Args:
        path: The file; a leading `~` is the home folder.
        count: Read at most this many frames, the first ones; None for all. A long video costs only
            the memory of these frames.

    Raises:
        FileNotFoundError: No such file.
        IsADirectoryError: The path is a folder.
        ValueError: The file type is unknown, the contents are damaged or no recording, or `count`
            is below 1.
    """
    path = to_path(path)
    reader = lookup(READERS, path.suffix.lower(), f"the file type of recording {str(path)!r}")
    if count is not None and count < 1:
        raise ValueError(f"expected count of at least 1, found {count}")
    if path.is_dir():
        raise IsADirectoryError(
            f"expected a recording at {path}, found a folder; name a file in it"
        )
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"expected a recording at {path}, found no such file{hint(path.name, beside)}"
        )
    return reader(path, count)


def _read_picture(path: Path, count: int | None) -> Recording:
    with reading(path, f"a recording at {path}"):
        return Recording(read_picture(path)[None])


def _read_video(path: Path, count: int | None) -> Recording:
    with reading(path, f"a recording at {path}"):
        return Recording(read_video(path, count))


def _read_array(path: Path, count: int | None) -> Recording:
    with reading(path, f"a recording at {path}"):
        header = array_header(path)
        single = len(header.shape) == 3
        check_frames((1,) * single + header.shape, header.dtype)
        return Recording(read_array(path)[None] if single else read_array(path, count))


READERS: Mapping[str, Callable[[Path, int | None], Recording]] = {
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
    ".mp4": _read_video,
    ".npy": _read_array,
    ".npz": load_recording,
}
