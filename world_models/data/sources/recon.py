"""RECON, as NoMaD and NWM arrange it: `<trajectory>/<i>.jpg` and `<trajectory>/traj_data.pkl`.

`traj_data.pkl` holds the `position` (T, 2) in metres and the `yaw` (T,) in radians at each picture.
An action is the motion to the next picture, in the robot's own axes before it: forward, left, turn.

Source: NoMaD's `process_recon.py`; NWM's `datasets.py` and `misc.py`, before their normalisation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import hint
from v2w_gym.configs.robots import RECON_JACKAL
from v2w_gym.world_models.data.decoding.arrays import reading
from v2w_gym.world_models.data.decoding.pictures import PictureFrames
from v2w_gym.world_models.data.decoding.safe_pickle import load_pickle
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.episode_files import (
    EpisodeFiles,
    open_files,
    parse_split,
    refuse_fields,
)
from v2w_gym.world_models.data.sources.listing import files_below, files_in

DATA = "traj_data.pkl"
BEFORE, AFTER = 3, 16
"""Frames of a published test clip before and after its time, which is the last that is given."""
CLIP = BEFORE + 1 + AFTER
"""Frames of a published test clip."""


@dataclass(frozen=True)
class Clip:
    """A test clip of NWM.

    Attributes:
        trajectory: Name of the trajectory.
        time: Number of the last frame that a model is given.
    """

    trajectory: str
    time: int


def recognises(path: Path) -> bool:
    """Whether a path is a folder with `traj_data.pkl`, or with such folders at any depth."""
    return next(files_below(path, DATA), None) is not None


def open_recon(path: Path, wanted: Wanted) -> "EpisodeFiles | ClipSource":
    """Open a trajectory, or all below a folder.

    A split is a file in or beside the folder: `traj_names.txt`, which lists trajectories, or
    `time.pkl` or `rollout.pkl` of NWM, which list test clips.

    Raises:
        FileNotFoundError: No such file.
        ValueError: As for `open_files`, fields or a camera, a damaged list, or one with a
            trajectory that is not there.
    """
    refuse_fields(wanted, path)
    folders = sorted(found.parent for found in files_below(path, DATA))
    split, part = parse_split(wanted.split, path)
    if split.endswith(".pkl"):
        return _open_clips(path, folders, _find_list(path, split), part)
    return open_files(
        *(path, folders, wanted, read_trajectory, _parts_of),
        splits=_listed(path, folders, split) if split.endswith(".txt") else {},
    )


def read_trajectory(folder: Path, name: str) -> Episode:
    """Return a trajectory, with `name` as its id.

    Raises:
        ValueError: Damaged data, or pictures that are missing.
    """
    with reading(folder / DATA, f"a trajectory of RECON at {folder}"):
        data = load_pickle(folder / DATA)
        position, yaw = _motion(data)
        frames = PictureFrames(_pictures_in(folder, len(position)))
    return Episode(
        *(name, frames, actions_between(position, yaw)),
        rate=RECON_JACKAL.control_hz,
        robot=RECON_JACKAL.name,
    )


def actions_between(position: NDArray[np.float64], yaw: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the motions between T places, (T - 1, 3): metres forward and to the left, radians.

    Args:
        position: (T, 2) metres.
        yaw: (T,) radians, counter-clockwise.
    """
    step, cos, sin = np.diff(position, axis=0), np.cos(yaw[:-1]), np.sin(yaw[:-1])
    forward = step[:, 0] * cos + step[:, 1] * sin
    left = step[:, 1] * cos - step[:, 0] * sin
    turn = (np.diff(yaw) + np.pi) % (2 * np.pi) - np.pi  # in [-pi, pi)
    return np.stack([forward, left, turn], axis=1).astype(np.float32)


@dataclass(frozen=True)
class ClipSource:
    """A `Source` of NWM's test clips, which are parts of trajectories.

    Attributes:
        name: Name for messages.
        clips: The clips, in order.
        folders: The trajectory of each clip.
    """

    name: str
    clips: tuple[Clip, ...]
    folders: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the trajectories, each once; see `Source.files`."""
        return tuple(file for folder in dict.fromkeys(self.folders) for file in _parts_of(folder))

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.clips)

    def ids(self) -> tuple[str, ...]:
        """Return the id of every clip; see `Source.ids`. Clips may repeat, their ids do not."""
        return tuple(f"{i:03d}_{clip.trajectory}_{clip.time}" for i, clip in enumerate(self.clips))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield clips; see `Source.read`."""
        rows = list(zip(self.clips, self.folders, self.ids(), strict=True))
        for clip, folder, name in rows[start:stop]:
            yield _cut(read_trajectory(folder, name), clip)


def load_clips(path: Path) -> list[Clip]:
    """Return the clips in `time.pkl` or `rollout.pkl` of NWM: tuples (trajectory, time, ...).

    Raises:
        ValueError: A damaged file, or other contents.
    """
    with reading(path, f"a list of NWM's test clips at {path}"):
        rows = load_pickle(path)
        if not isinstance(rows, list) or not rows or not all(map(_is_clip, rows)):
            raise ValueError("no list of tuples (trajectory, time, ...)")
        return [Clip(row[0], int(row[1])) for row in rows]


def _is_clip(row: Any) -> bool:
    return (
        isinstance(row, tuple)
        and len(row) >= 2
        and isinstance(row[0], str)
        and isinstance(row[1], (int, np.integer))
    )


def _cut(whole: Episode, clip: Clip) -> Episode:
    first, stop = clip.time - BEFORE, clip.time - BEFORE + CLIP
    if first < 0 or stop > len(whole):
        raise ValueError(
            f"expected frames {first} to {stop - 1} of trajectory {clip.trajectory}, found "
            f"{len(whole)} frames"
        )
    assert isinstance(whole.frames, PictureFrames) and whole.actions is not None
    frames = PictureFrames(whole.frames.paths[first:stop])
    return replace(whole, frames=frames, actions=whole.actions[first : stop - 1])


def _open_clips(path: Path, folders: Sequence[Path], file: Path, part: slice) -> ClipSource:
    clips = load_clips(file)[part]
    found = _named(folders, [clip.trajectory for clip in clips], file)
    return ClipSource(f"{path.name}, {file.name}", tuple(clips), tuple(found))


def _named(folders: Sequence[Path], names: Sequence[str], file: Path) -> list[Path]:
    """Return the folder of each trajectory that a file lists."""
    known = {folder.name: folder for folder in folders}
    found = [known.get(name) for name in names]
    if missing := [name for name, folder in zip(names, found, strict=True) if folder is None]:
        raise ValueError(
            f"expected the trajectories that {file} lists, found {len(missing)} of {len(found)} "
            f"missing, such as {missing[0]!r}{hint(missing[0], known)}"
        )
    return [folder for folder in found if folder]


def _listed(path: Path, folders: Sequence[Path], split: str) -> dict[str, list[Path]]:
    file = _find_list(path, split)
    names = file.read_text(encoding="utf-8", errors="replace").split()
    return {split: _named(folders, names, file)}


def _find_list(path: Path, name: str) -> Path:
    for place in (path / name, path.parent / name):
        if place.is_file():
            return place
    raise FileNotFoundError(f"expected the list {name} in or beside {path}, found none")


def _motion(data: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return position (T, 2) and yaw (T,)."""
    if not isinstance(data, dict) or not {"position", "yaw"} <= set(data):
        found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{found}, not `position` and `yaw`")
    position, yaw = np.asarray(data["position"]), np.asarray(data["yaw"])
    yaw = yaw[:, 0] if yaw.ndim == 2 and yaw.shape[1] == 1 else yaw
    for name, value, shape in (("position", position, (len(yaw), 2)), ("yaw", yaw, (len(yaw),))):
        if value.dtype.kind not in "iuf" or value.shape != shape or not np.isfinite(value).all():
            raise ValueError(f"`{name}` {value.shape} of {value.dtype}, not finite {shape}")
    if not len(yaw):
        raise ValueError("no places")
    return position.astype(np.float64), yaw.astype(np.float64)


def _pictures_in(folder: Path, count: int) -> tuple[Path, ...]:
    """Return the pictures 0.jpg to count - 1."""
    paths = tuple(folder / f"{step}.jpg" for step in range(count))
    there = {path.name for path in files_in(folder, ".jpg")}
    missing = [path.name for path in paths if path.name not in there]
    if missing or len(there) > count:
        lacks = f", without {missing[0]}" if missing else ""
        raise ValueError(f"{len(there)} pictures{lacks} for {count} places")
    return paths


def _parts_of(folder: Path) -> tuple[Path, ...]:
    return (folder / DATA, *files_in(folder, ".jpg"))
