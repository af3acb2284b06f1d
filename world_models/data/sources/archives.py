"""The source of .npz files: this project's episodes, and those of Vid2World's converter.

A folder may hold both kinds, in folders of any depth.
"""

from pathlib import Path

from v2w_gym.world_models.data.decoding.arrays import open_arrays, reading
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.labelled import ENDING, is_episode, is_labelled
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.converter import is_converted, read_converted
from v2w_gym.world_models.data.sources.episode_files import (
    EpisodeFiles,
    find_files,
    open_files,
    refuse_fields,
)
from v2w_gym.world_models.data.sources.episodes import read_own
from v2w_gym.world_models.data.sources.listing import files_below


def recognises(path: Path) -> bool:
    """Whether a path is an .npz file, or a folder with episodes in such files."""
    if path.is_file():
        return path.suffix.lower() == ENDING
    return any(map(is_episode, files_below(path, ENDING)))


def open_archives(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open an .npz file, or all of them below a folder.

    Raises:
        ValueError: As for `open_files`, or fields or a camera, which such files do not have.
    """
    files = [path] if path.is_file() else find_files(path, ENDING, is_episode, "episodes")
    refuse_fields(wanted, path)
    return open_files(path, files, wanted, read_archive)


def read_archive(path: Path, name: str) -> Episode:
    """Return the episode in an .npz file, with `name` as its id.

    Raises:
        ValueError: Another layout, a damaged file, or inconsistent arrays.
    """
    with reading(path, f"a recording at {path}"), open_arrays(path) as file:
        if is_labelled(file):
            return read_own(path, file, name)
        if is_converted(file):
            return read_converted(path, file, name)
        raise ValueError(
            f"arrays {sorted(file.names)}, neither an episode's nor `image` and `action`"
        )
