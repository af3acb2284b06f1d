"""Actions that lie beside a video or a folder of pictures, in an .npz or .npy file of its name.

`clip.mp4` has its actions in `clip.npz` or `clip.npy`: (T, A), whose last row leads to no frame and
is dropped, or (T - 1, A). Without `SourceFields`, an .npz file must hold one array, with values in
the order of the robot. With them, it may also hold the instruction and the success.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import hint
from v2w_gym.configs.sources import SourceFields
from v2w_gym.world_models.data.decoding.arrays import (
    DAMAGED,
    array_header,
    as_numbers,
    open_arrays,
    read_array,
    reading,
)
from v2w_gym.world_models.data.decoding.videos import VideoFile
from v2w_gym.world_models.data.episode import Episode, Frames
from v2w_gym.world_models.data.labelled import is_labelled
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.converter import is_converted
from v2w_gym.world_models.data.sources.expressions import read_actions

BESIDE = (".npz", ".npy")
WHOLE = "action"
"""Name of the only array of a file, which then need not be named as it is stored."""


def files_beside(path: Path) -> tuple[Path, ...]:
    """Return the files with actions beside a video or a folder."""
    stem = path.with_suffix("") if path.is_file() else path.resolve()
    places = (stem.with_name(stem.name + ending) for ending in BESIDE)
    return tuple(place for place in places if place.is_file())


def describe(path: Path, name: str, frames: Frames, wanted: Wanted) -> Episode:
    """Return the episode with these frames, and with what lies beside its path.

    Args:
        path: The video or folder.
        name: The episode's id.
        frames: Its frames.
        wanted: Names of arrays, and the rate and the robot if they are known.

    Raises:
        ValueError: A field that a video or a picture cannot have, two files beside it, or one that
            is damaged or does not fit.
    """
    fields = wanted.fields or SourceFields()
    _check_used(fields, path)
    own_rate = frames.rate if isinstance(frames, VideoFile) else None
    plain = Episode(name, frames, rate=fields.rate or own_rate, robot=fields.robot or None)
    file = _find_file(path)
    if file is None:
        return plain
    advice = "if this is no file of its actions, rename it"
    with reading(file, f"the actions of {path.name} in {file}", advice):
        return _add_arrays(plain, _arrays_of(file), fields)


def refuse_camera(wanted: Wanted, path: Path) -> None:
    """Check that no camera is asked for.

    Raises:
        ValueError: A camera.
    """
    if wanted.camera:
        raise ValueError(
            f"expected no camera for {path}, which shows one, found {wanted.camera!r}; leave it out"
        )


def _check_used(fields: SourceFields, path: Path) -> None:
    for setting in ("frames", "id"):
        if found := getattr(fields, setting):
            raise ValueError(
                f"expected fields without {setting} for {path}, whose frames are pictures, found "
                f"{found!r}; leave it out"
            )


def _find_file(path: Path) -> Path | None:
    files = [file for file in files_beside(path) if not _is_recording(file)]
    if len(files) > 1:
        names = " and ".join(file.name for file in files)
        raise ValueError(f"expected one file of actions beside {path}, found {names}")
    return files[0] if files else None


def _add_arrays(
    plain: Episode, arrays: Mapping[str, NDArray[Any]], fields: SourceFields
) -> Episode:
    """Return an episode of T frames with its actions (T - 1, A), instruction and success."""
    frames, named = len(plain), None
    if fields.actions:
        actions, named = read_actions(fields.actions, partial(_find, arrays))
    else:
        actions = as_numbers(WHOLE, _find(arrays, WHOLE), 2)
    if len(actions) not in (frames, frames - 1):
        raise ValueError(f"{len(actions)} actions, not {frames} or {frames - 1}")
    return replace(
        plain,
        actions=actions[: frames - 1],
        action_fields=named,
        instruction=_read_text(arrays, fields.instruction) if fields.instruction else None,
        success=_read_success(arrays, fields.success, frames) if fields.success else None,
    )


def _read_text(arrays: Mapping[str, NDArray[Any]], name: str) -> str:
    found = _find(arrays, name)
    if found.dtype.kind != "U" or not found.size:
        raise ValueError(f"`{name}` {found.shape} of {found.dtype}, not text")
    return str(found.flat[0])


def _read_success(arrays: Mapping[str, NDArray[Any]], name: str, frames: int) -> NDArray[np.bool_]:
    """Return the success at each frame (T,); a single value is that of the last frame."""
    found = _find(arrays, name)
    if found.dtype.kind not in "biu" or found.shape not in ((), (1,), (frames,)):
        raise ValueError(f"`{name}` {found.shape} of {found.dtype}, not bool ({frames},)")
    whole = np.zeros(frames, np.bool_)
    whole[-found.size :] = found != 0
    return whole


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
