"""Where a rollout in a world model begins: one camera frame of a robot about to try a task."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.lookup import hint, lookup
from v2w_gym.tasks import TASKS
from world_models.data.episodes import load_episode

BUNDLED = Path(__file__).parent / "starts" / "standin.npz"
BUNDLED_ROBOT = "standin_sawyer"
FIRST_SEED = 2_000_000
"""Seed of the first bundled start of each task; no recorded episode uses these seeds."""


@dataclass(frozen=True)
class Start:
    """One start: `frame` (H, W, 3) uint8 is what `StandinEnv(task).reset(seed=seed)` shows."""

    task: str
    seed: int
    frame: NDArray[np.uint8]


def bundled_starts(task: str) -> list[Start]:
    """Return the starts that come with the package for one task, in a fixed order.

    Raises:
        ValueError: Unknown task.
    """
    lookup(TASKS, task, "task")
    return [start for start in _bundled() if start.task == task]


def load_start(source: int | str, task: str) -> NDArray[np.uint8]:
    """Return the frame (H, W, 3) that a rollout of `task` begins with.

    Args:
        source: Index into `bundled_starts(task)`, or the path of a picture (.png, .jpg), a frame
            (.npy) or a recorded episode (.npz), of which the first frame is taken.
        task: Name of the task.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Unknown task, index out of range, or a file that cannot be read as a frame.
    """
    if isinstance(source, str):
        return _read_frame(Path(source))
    starts = bundled_starts(task)
    if not 0 <= source < len(starts):
        raise ValueError(
            f"expected start to be a file or an index from 0 to {len(starts) - 1} for task "
            f"{task!r}, found {source}"
        )
    return starts[source].frame


def save_starts(path: Path, starts: Sequence[Start]) -> None:
    """Write `starts` to one deflated `.npz`; the file appears whole or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            allow_pickle=False,
            frames=np.stack([start.frame for start in starts]),
            tasks=np.array([start.task for start in starts]),
            seeds=np.array([start.seed for start in starts], np.int64),
        )
    partial.replace(path)


def load_starts(path: Path) -> list[Start]:
    """Read what `save_starts` wrote."""
    with np.load(path, allow_pickle=False) as file:
        rows = zip(file["tasks"], file["seeds"], file["frames"], strict=True)
        return [Start(str(task), int(seed), frame) for task, seed, frame in rows]


def record_starts(path: Path, count: int) -> None:
    """Photograph `count` starts of each task on the stand-in robot and save them to `path`.

    Raises:
        ModuleNotFoundError: The `standin` extra is not installed.
    """
    from v2w_gym.standin import StandinEnv

    starts: list[Start] = []
    for task in TASKS:
        env = StandinEnv(task)
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            starts.append(Start(task, seed, env.reset(seed=seed)[0]))
        env.close()
    save_starts(path, starts)


@cache
def _bundled() -> list[Start]:
    return load_starts(BUNDLED)


def _read_picture(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8).copy()


def _read_array(path: Path) -> NDArray[np.uint8]:
    frame: NDArray[np.uint8] = np.load(path, allow_pickle=False)
    return frame


def _read_first_frame(path: Path) -> NDArray[np.uint8]:
    return load_episode(path).frames[0]


READERS: Mapping[str, Callable[[Path], NDArray[np.uint8]]] = {
    ".png": _read_picture,
    ".jpg": _read_picture,
    ".jpeg": _read_picture,
    ".npy": _read_array,
    ".npz": _read_first_frame,
}


def _read_frame(path: Path) -> NDArray[np.uint8]:
    reader = lookup(READERS, path.suffix.lower(), f"the file type of start {str(path)!r}")
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"expected a start frame at {path}, found no such file{hint(path.name, beside)}"
        )
    try:
        return reader(path)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"expected a start frame at {path}, found {error!r}") from error
