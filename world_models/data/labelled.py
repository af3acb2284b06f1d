"""Labelled episodes on disk: frames, actions, and what only a simulator knows of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data.decoding.array_frames import archived_frames, check_frames
from v2w_gym.world_models.data.decoding.arrays import (
    DAMAGED,
    ArrayFile,
    as_numbers,
    open_arrays,
    reading,
)
from v2w_gym.world_models.data.recorded_actions import check_robot
from v2w_gym.world_models.data.sources.converter import NAMED as CONVERTED
from v2w_gym.world_models.data.sources.converter import is_converted
from v2w_gym.world_models.data.sources.episode_files import find_files, kinds_in
from v2w_gym.world_models.files import replacing

ENDING = ".npz"
NAMED = "episode_*.npz"
NAMES = (NAMED, CONVERTED)
"""Names of episodes, which need no look into the file."""
FORMAT = "v2w-episode-1"
META: Mapping[str, type] = {
    "robot": str,
    "task": str,
    "instruction": str,
    "behaviour": str,
    "seed": int,
}
"""Metadata of an episode, with types."""
ARRAYS = ("frames", "actions", "expert_actions", "success")
STATE = "state/"
ADVICE = "copy the file again, or record it again"
WITHOUT_LABELS = (
    "no `meta`; a file of frames and actions alone, without instruction and success, as of "
    "Vid2World's converter, serves as start, actions or policy, and for train and fidelity"
)


@dataclass(frozen=True)
class LabelledEpisode:
    """T frames recorded on a robot, the T - 1 actions between them, and their labels.

    Attributes:
        frames: (T, H, W, 3) uint8.
        actions: (T - 1, A) float32; `actions[t]` is taken at frame t and leads to frame t + 1.
        expert_actions: (T - 1, A) float32; the action that the expert would take at frame t.
        success: (T,) bool; whether the task is solved at frame t.
        robot: Name of the `RobotSpec`.
        task: Name of the task.
        instruction: Instruction of the task.
        behaviour: Name of the behaviour that acted; see `v2w_gym.standin.behaviours`.
        seed: Seed of the start.
        state: Named ground truth that the camera does not show, each (T, ...) float32. May be
            empty.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    expert_actions: NDArray[np.float32]
    success: NDArray[np.bool_]
    robot: str
    task: str
    instruction: str
    behaviour: str
    seed: int
    state: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def save_labelled(path: Path, episode: LabelledEpisode) -> None:
    """Write a compressed `.npz` file atomically."""
    meta = {"format": FORMAT, **{name: getattr(episode, name) for name in META}}
    arrays: dict[str, NDArray[Any]] = {
        "meta": np.array(json.dumps(meta)),
        **{name: getattr(episode, name) for name in ARRAYS},
        **{f"state/{name}": value for name, value in episode.state.items()},
    }
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_labelled(path: Path) -> LabelledEpisode:
    """Read one episode, and check that its parts are consistent.

    Raises:
        ValueError: Another or a truncated file, or inconsistent arrays.
    """
    with _opened(path) as file:
        meta, arrays = _read_parts(file)
    _check_lengths(path, arrays)
    episode = LabelledEpisode(
        frames=arrays["frames"],
        actions=as_numbers("actions", arrays["actions"], 2),
        expert_actions=as_numbers("expert_actions", arrays["expert_actions"], 2),
        success=arrays["success"],
        state={
            name.removeprefix(STATE): value.astype(np.float32)
            for name, value in arrays.items()
            if name.startswith(STATE)
        },
        **meta,
    )
    if not np.isfinite(episode.actions).all():
        raise ValueError(f"expected finite actions in {path}, found NaN or infinity")
    return episode


def load_robot_labelled(path: Path, robot: RobotSpec) -> LabelledEpisode:
    """Read one episode of a robot, with actions as recorded.

    Raises:
        ValueError: As for `load_labelled`, or an episode of another robot.
    """
    episode = load_labelled(path)
    check_robot(episode.robot, episode.frames, robot, path)
    return episode


def list_labelled(folders: Sequence[str | Path]) -> list[Path]:
    """Return every .npz episode below `folders`, sorted by path; a folder may be a file.

    `load_labelled` refuses those without labels. A warning names other .npz files.

    Raises:
        FileNotFoundError: A folder that does not exist or holds no episode.
    """
    return [path for folder in folders for path in _labelled_below(to_path(folder))]


def read_task(path: Path) -> str:
    """Return the task of a labelled episode; only its metadata are read.

    Raises:
        ValueError: As for `load_labelled`.
    """
    with _opened(path) as file:
        return str(read_meta(file)["task"])


def count_frames(path: Path) -> int:
    """Return the number of frames of a labelled episode; only its header is read.

    Raises:
        ValueError: As for `load_labelled`.
    """
    with _opened(path) as file:
        return len(archived_frames(path, file, "frames"))


def is_episode(path: Path) -> bool:
    """Whether an .npz file has the name of an episode, or its arrays; it may lack labels."""
    if any(path.match(name) for name in NAMES):
        return True
    try:
        with open_arrays(path) as file:
            return is_labelled(file) or is_converted(file)
    except DAMAGED:
        return False


def is_labelled(file: ArrayFile) -> bool:
    """Whether an open file has the metadata of a labelled episode."""
    return "meta" in file.names


def read_meta(file: ArrayFile) -> dict[str, Any]:
    """Return the metadata of an open episode; see `META`.

    Raises:
        One of `DAMAGED`: A missing entry, or one of another type.
    """
    meta = file.read_json("meta", FORMAT)
    for name, kind in META.items():
        if type(meta.get(name)) is not kind:
            found = type(meta.get(name)).__name__
            raise ValueError(f"`meta` with a {found} as {name}, not {kind.__name__}")
    if not 0 <= meta["seed"] < 2**63:
        raise ValueError(f"seed {meta['seed']} in `meta`, not one from 0 to 2**63 - 1")
    return {name: meta[name] for name in META}


def _labelled_below(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    found = find_files(folder, ENDING, is_episode, "episodes")
    if not found:
        raise FileNotFoundError(
            f"expected {NAMED} files below {folder}, found {kinds_in(folder)}; record some with "
            "`v2w collect`"
        )
    return found


@contextmanager
def _opened(path: Path) -> Iterator[ArrayFile]:
    """Open a labelled episode; errors become one line."""
    expected = f"a whole {FORMAT} file at {path}"
    with reading(path, expected, ADVICE), open_arrays(path) as file:
        labelled = is_labelled(file) or not is_converted(file)
        if labelled:
            yield file
    if not labelled:
        raise ValueError(f"expected {expected}, found {WITHOUT_LABELS}")


def _read_parts(file: ArrayFile) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the metadata and arrays of an open episode, with checked types."""
    meta = read_meta(file)
    states = [name for name in file.names if name.startswith(STATE)]
    arrays = {name: file.read(name) for name in (*ARRAYS, *states)}
    check_frames(arrays["frames"].shape, arrays["frames"].dtype)
    _check_types(arrays)
    return meta, arrays


def _check_types(arrays: Mapping[str, NDArray[Any]]) -> None:
    for name in ("actions", "expert_actions"):
        as_numbers(name, arrays[name], 2)
    if arrays["actions"].shape[1] != arrays["expert_actions"].shape[1]:
        raise ValueError("`actions` and `expert_actions` of different sizes")
    success = arrays["success"]
    if success.dtype != np.bool_ or success.ndim != 1:
        raise ValueError(f"`success` {success.shape} of {success.dtype}, not bool (T,)")
    for name, value in arrays.items():
        if name.startswith(STATE) and not (
            value.dtype.kind in "biuf" and value.ndim and np.isfinite(value).all()
        ):
            raise ValueError(
                f"`{name}` {value.shape} of {value.dtype}, not finite numbers (T, ...)"
            )


def _check_lengths(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    frames = arrays["frames"]
    between = {"actions", "expert_actions"}
    expected = {name: len(frames) - (name in between) for name in arrays}
    wrong = {
        name: (len(value), expected[name])
        for name, value in arrays.items()
        if len(value) != expected[name]
    }
    if wrong:
        raise ValueError(
            f"expected arrays for {len(frames)} frames in {path}, found (length, expected) {wrong}"
        )
