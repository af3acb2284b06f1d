"""One recorded episode on disk: what it holds, how it is written, how it is checked when read."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from world_models.writing import replacing

FORMAT = "v2w-episode-1"
ARRAYS = ("frames", "actions", "expert_actions", "success")
META = ("robot", "task", "instruction", "behaviour", "seed")


@dataclass(frozen=True)
class Episode:
    """T frames recorded on a robot and the T - 1 actions between them.

    Attributes:
        frames: (T, H, W, 3) uint8.
        actions: (T - 1, A) float32; `actions[t]` is taken at frame t and leads to frame t + 1.
        expert_actions: (T - 1, A) float32; what the expert would have done at frame t.
        success: (T,) bool; whether the task was solved at frame t.
        robot: Name of the `RobotSpec`.
        task: Name of the task.
        instruction: What the robot was told.
        behaviour: Which behaviour acted; see `v2w_gym.behaviours`.
        seed: Seed of the start.
        state: Named ground truth a camera does not see, each (T, ...) float32. May be empty.
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
    """Write one deflated `.npz`; the file appears whole or not at all."""
    meta = {"format": FORMAT, **{name: getattr(episode, name) for name in META}}
    arrays: dict[str, NDArray[Any]] = {
        "meta": np.array(json.dumps(meta)),
        **{name: getattr(episode, name) for name in ARRAYS},
        **{f"state/{name}": value for name, value in episode.state.items()},
    }
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_episode(path: Path) -> Episode:
    """Read one episode and check that its parts fit together.

    Raises:
        ValueError: Not an episode, truncated, or with arrays that contradict each other.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        episode = Episode(
            **{name: arrays.pop(name) for name in ARRAYS},
            **{name: meta[name] for name in META},
            state={name.removeprefix("state/"): value for name, value in arrays.items()},
        )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"expected a whole {FORMAT} file at {path}, found {error!r}; "
            "delete the file and record it again"
        ) from error
    _check(path, episode)
    return episode


def list_episodes(folders: Sequence[str | Path]) -> list[Path]:
    """Return every episode file below `folders`, sorted by path.

    Raises:
        FileNotFoundError: A folder that does not exist or holds no episode.
    """
    paths: list[Path] = []
    for folder in folders:
        found = sorted(Path(folder).rglob("episode_*.npz"))
        if not found:
            raise FileNotFoundError(
                f"expected episode_*.npz files below {folder}, found none; record some with "
                "`v2w collect`"
            )
        paths += found
    return paths


def _check(path: Path, episode: Episode) -> None:
    frames, steps = episode.frames, len(episode.frames) - 1
    lengths = {
        "actions": (len(episode.actions), steps),
        "expert_actions": (len(episode.expert_actions), steps),
        "success": (len(episode.success), steps + 1),
        **{f"state/{k}": (len(v), steps + 1) for k, v in episode.state.items()},
    }
    wrong = {name: pair for name, pair in lengths.items() if pair[0] != pair[1]}
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 frames (T, H, W, 3) in {path}, found {frames.dtype} {frames.shape}"
        )
    if wrong:
        raise ValueError(
            f"expected arrays that fit {len(frames)} frames in {path}, "
            f"found (length, expected) {wrong}"
        )
    if not np.isfinite(episode.actions).all():
        raise ValueError(f"expected finite actions in {path}, found NaN or infinity")
