"""Recorded episodes on disk: writing, reading and checking them."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data.arrays import ArrayFile, as_numbers, open_arrays, reading
from v2w_gym.world_models.data.recording import (
    FORMAT,
    META,
    OURS,
    check_robot,
    find_layout,
    is_recording,
    read_meta,
)
from v2w_gym.world_models.files import replacing

log = logging.getLogger(__name__)

NAMED = "episode_*.npz"
ARRAYS = ("frames", "actions", "expert_actions", "success")
STATE = "state/"
ADVICE = "copy the file again, or record it again"
WITHOUT_LABELS = (
    "frames and actions alone, without instruction and success, as in files of Vid2World's "
    "converter; use such a file as start, actions or policy, or for train and fidelity"
)


@dataclass(frozen=True)
class Episode:
    """T frames recorded on a robot and the T - 1 actions between them.

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


def save_episode(path: Path, episode: Episode) -> None:
    """Write a compressed `.npz` file atomically."""
    meta = {"format": FORMAT, **{name: getattr(episode, name) for name in META}}
    arrays: dict[str, NDArray[Any]] = {
        "meta": np.array(json.dumps(meta)),
        **{name: getattr(episode, name) for name in ARRAYS},
        **{f"state/{name}": value for name, value in episode.state.items()},
    }
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_episode(path: Path) -> Episode:
    """Read one episode, and check that its parts are consistent.

    Raises:
        ValueError: Another or a truncated file, or inconsistent arrays.
    """
    expected = f"a whole {FORMAT} file at {path}"
    with reading(path, expected, ADVICE), open_arrays(path) as file:
        parts = _read_parts(file) if find_layout(file) is OURS else None
    if parts is None:
        raise ValueError(f"expected {expected}, found {WITHOUT_LABELS}")
    meta, arrays = parts
    _check_lengths(path, arrays)
    episode = Episode(
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


def load_robot_episode(path: Path, robot: RobotSpec) -> Episode:
    """Read one episode of a robot, with actions as recorded.

    Raises:
        ValueError: As for `load_episode`, or an episode of another robot.
    """
    episode = load_episode(path)
    check_robot(episode.robot, episode.frames, robot, path)
    return episode


def list_episodes(folders: Sequence[str | Path]) -> list[Path]:
    """Return every recorded episode below `folders`, sorted by path; a folder may be a file.

    Episodes are files named `episode_*.npz`, and any .npz in a layout that
    `v2w_gym.world_models.data.recording` reads. A warning names other .npz files.

    Raises:
        FileNotFoundError: A folder that does not exist or holds no episode.
    """
    return [path for folder in folders for path in _episodes_below(to_path(folder))]


def _episodes_below(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    files = sorted(path for path in folder.rglob("*.npz") if path.is_file())
    found = [path for path in files if path.match(NAMED) or is_recording(path)]
    if not found:
        raise FileNotFoundError(
            f"expected {NAMED} files below {folder}, or those of Vid2World's converter, found "
            f"{_kinds(folder) or 'none'}; record some with `v2w collect`"
        )
    if others := sorted(set(files) - set(found)):
        log.warning(
            "%d .npz files below %s are not episodes and are left out, such as %s",
            *(len(others), folder, others[0].name),
        )
    return found


def _kinds(folder: Path) -> str:
    """Return the number of files of each ending, for messages."""
    endings = Counter(path.suffix or path.name for path in folder.rglob("*") if path.is_file())
    return ", ".join(f"{count} {ending}" for ending, count in endings.most_common(3))


def _read_parts(file: ArrayFile) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the metadata and arrays of an open episode, with checked types."""
    meta = read_meta(file)
    states = [name for name in file.names if name.startswith(STATE)]
    arrays = {name: file.read(name) for name in (*ARRAYS, *states)}
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
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"expected uint8 frames (T, H, W, 3) in {path}, found {frames.dtype} {frames.shape}"
        )
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
