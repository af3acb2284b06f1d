"""The source of pictures: .png and .jpg files, and folders of them.

A picture is an episode of one frame. A folder of pictures is an episode whose frames are in the
order of their numbers. A folder of such folders holds many. Actions may lie beside: see `beside`.
"""

from functools import partial
from pathlib import Path

from v2w_gym.world_models.data.decoding.pictures import PICTURES, PictureFrames
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.beside import describe, files_beside, refuse_camera
from v2w_gym.world_models.data.sources.episode_files import EpisodeFiles, open_files
from v2w_gym.world_models.data.sources.listing import files_below, files_in, in_natural_order


def recognises(path: Path) -> bool:
    """Whether a path is a picture, or a folder with pictures at any depth."""
    if path.is_file():
        return path.suffix.lower() in PICTURES
    return next(files_below(path, *PICTURES), None) is not None


def open_pictures(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open a picture, a folder of pictures, or all such folders below a folder.

    Raises:
        ValueError: As for `open_files`, or a camera.
    """
    refuse_camera(wanted, path)
    if path.is_file():
        paths = [path]
    else:
        paths = in_natural_order({found.parent for found in files_below(path, *PICTURES)})
    return open_files(
        *(path, paths, wanted),
        load=partial(_read, wanted),
        parts=_parts_of,
    )


def _parts_of(place: Path) -> tuple[Path, ...]:
    return _pictures_in(place) + (() if place.is_file() else files_beside(place))


def _read(wanted: Wanted, place: Path, name: str) -> Episode:
    frames = PictureFrames(_pictures_in(place))
    return Episode(name, frames) if place.is_file() else describe(place, name, frames, wanted)


def _pictures_in(place: Path) -> tuple[Path, ...]:
    if place.is_file():
        return (place,)
    return tuple(files_in(place, *PICTURES))
