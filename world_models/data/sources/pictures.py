"""The source of pictures: .png and .jpg files."""

from pathlib import Path

from v2w_gym.world_models.data.arrays import reading
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.pictures import read_picture
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.episode_files import EpisodeFiles, open_files

ENDINGS = (".png", ".jpg", ".jpeg")


def recognises(path: Path) -> bool:
    """Whether a path is a picture."""
    return path.is_file() and path.suffix.lower() in ENDINGS


def open_pictures(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open a picture, which is an episode of one frame.

    Raises:
        ValueError: As for `open_files`.
    """
    return open_files(path, [path], wanted, _read)


def _read(path: Path, name: str) -> Episode:
    with reading(path, f"a recording at {path}"):
        return Episode(name, read_picture(path)[None])
