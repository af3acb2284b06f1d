"""The source of videos: files and folders of them; actions may lie beside: see `beside`."""

from functools import partial
from pathlib import Path

from v2w_gym.world_models.data.decoding.videos import VideoFile
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.beside import describe, files_beside, refuse_camera
from v2w_gym.world_models.data.sources.episode_files import EpisodeFiles, open_files
from v2w_gym.world_models.data.sources.listing import files_below, in_natural_order

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Endings of containers in which every frame has a time stamp."""


def recognises(path: Path) -> bool:
    """Whether a path is a video, or a folder with videos at any depth."""
    if path.is_file():
        return path.suffix.lower() in ENDINGS
    return next(files_below(path, *ENDINGS), None) is not None


def open_videos(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open a video, or all videos below a folder in the order of their numbers.

    Raises:
        ValueError: As for `open_files`, or a camera.
    """
    refuse_camera(wanted, path)
    paths = [path] if path.is_file() else in_natural_order(files_below(path, *ENDINGS))
    return open_files(
        *(path, paths, wanted),
        load=partial(_read, wanted),
        parts=_parts_of,
    )


def _read(wanted: Wanted, path: Path, name: str) -> Episode:
    return describe(path, name, VideoFile(path), wanted)


def _parts_of(path: Path) -> tuple[Path, ...]:
    return (path, *files_beside(path))
