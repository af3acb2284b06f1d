"""Actions that lie beside a video or a folder of pictures, in an .npz or .npy file of its name.

`clip.mp4` has its actions in `clip.npz` or `clip.npy`: (T, A), whose last row leads to no frame and
is dropped, or (T - 1, A). Without `SourceFields`, an .npz file must hold one array, with values in
the order of the robot.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import hint
from v2w_gym.configs.sources import SourceFields
from v2w_gym.world_models.data.arrays import (
    DAMAGED,
    array_header,
    as_numbers,
    open_arrays,
    read_array,
    reading,
)
from v2w_gym.world_models.data.episode import Episode, Frames
from v2w_gym.world_models.data.labelled import is_labelled
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.converter import is_converted
from v2w_gym.world_models.data.sources.expressions import ActionFields, read_actions
from v2w_gym.world_models.data.videos import VideoFile

BESIDE = (".npz", ".npy")
WHOLE = "action"
"""Name of the only array of a file, which then need not be named as it is stored."""


def files_beside(path: Path) -> tuple[Path, ...]:
    """Return the files with actions beside a video or a folder."""
    stem = path.with_suffix("") if path.is_file() else path.resolve()
    places = (stem.with_name(stem.name + ending) for ending in BESIDE)
    return tuple(place for place in places if place.is_file())


def describe(path: Path, name: str, frames: Frames, wanted: Wanted) -> Episode:
    """Return the episode with these frames, and with the actions beside its path.

    Args:
        path: The video or folder.
        name: The episode's id.
        frames: Its frames.
        wanted: Names of arrays, and the rate and the robot if they are known.

    Raises:
        ValueError: Two files of actions, or one that is damaged or does not fit.
    """
    fields = wanted.fields or SourceFields()
    own_rate = frames.rate if isinstance(frames, VideoFile) else None
    return Episode(
        *(name, frames, *_read_beside(path, len(frames), fields)),
        rate=fields.rate or own_rate,
        robot=fields.robot or None,
    )


def refuse_camera(wanted: Wanted, path: Path) -> None:
    """Check that no camera is asked for.

    Raises:
        ValueError: A camera.
    """
    if wanted.camera:
        raise ValueError(
            f"expected no camera for {path}, which shows one, found {wanted.camera!r}; leave it out"
        )


def _read_beside(
    path: Path, frames: int, fields: SourceFields
) -> tuple[NDArray[np.float32] | None, ActionFields | None]:
    """Return the actions (T - 1, A) beside a recording of T frames, and their fields, or None."""
    files = [file for file in files_beside(path) if not _is_recording(file)]
    if not files:
        return None, None
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise ValueError(f"expected one file of actions beside {path}, found {names}")
    file = files[0]
    advice = "if these are no actions of it, rename the file"
    with reading(file, f"the actions of {path.name} in {file}", advice):
        arrays = _arrays_of(file)
        named = None
        if fields.actions:
            actions, named = read_actions(fields.actions, partial(_find, arrays))
        else:
            actions = as_numbers(WHOLE, _find(arrays, WHOLE), 2)
        if len(actions) not in (frames, frames - 1):
            raise ValueError(f"{len(actions)} actions, not {frames} or {frames - 1}")
    return actions[: frames - 1], named


def _arrays_of(file: Path) -> dict[str, NDArray[Any]]:
    if file.suffix == ".npy":
        return {WHOLE: read_array(file)}
    with open_arrays(file) as arrays:
        return {name: arrays.read(name) for name in arrays.names}


def _find(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    if name in arrays:
        return arrays[name]
    if name == WHOLE and len(arrays) == 1:
        return next(iter(arrays.values()))
    raise ValueError(
        f"no {name!r} among the arrays {sorted(arrays)}{hint(name, arrays)}, which fields= can name"
    )


def _is_recording(file: Path) -> bool:
    """Whether a file holds frames: it is then another recording, and not actions."""
    try:
        if file.suffix == ".npy":
            return len(array_header(file).shape) in (3, 4)
        with open_arrays(file) as arrays:
            return is_labelled(arrays) or is_converted(arrays)
    except DAMAGED:
        return False
