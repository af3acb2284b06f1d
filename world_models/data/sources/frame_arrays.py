"""The source of .npy files: a frame (H, W, 3), or frames (T, H, W, 3)."""

from pathlib import Path

from v2w_gym.world_models.data.decoding.array_frames import load_frames
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.episode_files import EpisodeFiles, open_files, refuse_fields

ENDING = ".npy"


def recognises(path: Path) -> bool:
    """Whether a path is a .npy file."""
    return path.is_file() and path.suffix.lower() == ENDING


def open_frame_array(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open a .npy file.

    Raises:
        ValueError: As for `open_files`, or fields or a camera, which such files do not have.
    """
    refuse_fields(wanted, path)
    return open_files(path, [path], wanted, _read)


def _read(path: Path, name: str) -> Episode:
    return Episode(name, load_frames(path))
