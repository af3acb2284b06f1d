"""Starts: the initial conditions of rollouts.

A start is the frame, or the few frames and the actions between them, that a camera recorded before
the policy acts. It is bundled or read from a file. `Context` holds the part of it that a world
model receives.
"""

import os
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS, RobotSpec
from v2w_gym.configs.tasks import TASKS, find_task, tasks_of
from v2w_gym.configs.values import is_whole_number
from v2w_gym.standin.drawer import begins_as
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.fit import in_robots_order
from v2w_gym.world_models.data.recorded_actions import execute_known, warn_of
from v2w_gym.world_models.data.sources.opening import read_one, split_episode, split_path
from v2w_gym.world_models.data.starts.files import (
    Start,
    StartFile,
    is_start_file,
    load_starts,
    save_starts,
)
from v2w_gym.world_models.frames import check_context

BUNDLED = Path(__file__).parent / "starts" / "standin.npz"
BUNDLED_ROBOT = "standin_sawyer"
BUNDLED_SOURCE = "stand-in robot"
FIRST_SEED = 2_000_000
"""Seed of the first bundled start of each task; no recorded episode uses these seeds."""


@dataclass(frozen=True)
class Context:
    """The context frames with which a world model begins a rollout.

    Attributes:
        frames: (T, H, W, 3) uint8, oldest first.
        actions: (T - 1, A) float32, the actions between the frames; NaN where unknown.
        instruction: Instruction that was recorded; None if there is none.
        episode: Id of the recorded episode; "" for a bundled start.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    instruction: str | None = None
    episode: str = ""


def bundled_starts(task: str) -> list[Start]:
    """Return the bundled starts of a task, in a fixed order.

    Tasks that begin with the same scene share their starts.

    Raises:
        ValueError: Unknown task.
    """
    lookup(TASKS, task, "task")
    return [start for start in _bundled().starts if start.task == begins_as(task)]


def bundled_start(index: int, task: str) -> Start:
    """Return one bundled start of a task.

    Raises:
        ValueError: Unknown task, or `index` is no integer in range.
    """
    starts = bundled_starts(task)
    if is_whole_number(index) and 0 <= index < len(starts):
        return starts[index]
    raise ValueError(
        f"expected start to be a file or the number of a bundled start of {task!r}, from 0 to "
        f"{len(starts) - 1}, found {index!r}"
    )


def draw_start(task: str, robot: RobotSpec, rng: np.random.Generator) -> int:
    """Draw the index of a bundled start.

    Raises:
        ValueError: Unknown task, or the robot has no bundled starts.
    """
    _check_has_starts(robot, None)
    return int(rng.integers(len(bundled_starts(task))))


def load_start(
    source: int | str | os.PathLike[str], task: str, robot: RobotSpec, context_frames: int
) -> Context:
    """Return the context frames of a start.

    A recording gives its first frames, at most `context_frames`, and the actions between them,
    clipped to the robot's bounds. A start in a start file gives its newest frames. A single frame
    is repeated `context_frames` times. A file is read once, and again only after it has changed.

    Args:
        source: Index into `bundled_starts(task)`, or recorded data for `open_recording`.
        task: Name of the task.
        robot: The robot that the world model imagines.
        context_frames: Number of frames with which the world model begins a rollout.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Unknown task, neither a path nor an index in range, a file that is no recording,
            or frames or actions that do not fit the robot.
    """
    find_task(task, robot.name)
    if isinstance(source, (str, os.PathLike)):
        context = _read_context(os.fspath(source), _stamp(source), robot, context_frames)
    else:
        _check_has_starts(robot, source)
        start = bundled_start(source, task)
        context = begin_with(Episode("", start.frame[None]), robot, context_frames, source)
    return replace(context, frames=context.frames.copy(), actions=context.actions.copy())


def open_recording(source: str | os.PathLike[str], context_frames: int) -> Episode:
    """Open the recording that a rollout continues from frame `context_frames` - 1 on.

    Args:
        source: A file with one episode or picture, or one episode of several: "starts.npz#3",
            "FOLDER#12" or "FOLDER:val#ID".
        context_frames: Number of frames with which the world model begins a rollout. Earlier frames
            of a start file, whose newest frame is the last, are left out.

    Raises:
        FileNotFoundError: No such file.
        ValueError: As for `read_one`.
    """
    episode, (path, _) = read_one(source), split_path(split_episode(source)[0])
    first = len(episode) - context_frames
    if first <= 0 or not is_start_file(path):
        return episode
    actions = None if episode.actions is None else episode.actions[first:]
    return replace(episode, frames=episode.frames[first:], actions=actions)


def begin_with(episode: Episode, robot: RobotSpec, context_frames: int, origin: object) -> Context:
    """Return the context frames of a rollout that continues a recording; see `load_start`.

    Args:
        episode: The recording; only its first frames are decoded.
        robot: The robot that the world model imagines.
        context_frames: Number of frames with which the world model begins a rollout.
        origin: Where the recording comes from, for messages.

    Raises:
        ValueError: The recording is of another robot, or its frames or actions do not fit.
    """
    try:
        if episode.robot not in (None, robot.name):
            raise ValueError(f"expected robot {robot.name!r}, found {episode.robot!r}")
        frames, actions = _beginning(in_robots_order(episode, robot), robot, context_frames)
        unknown = np.full(actions.shape, np.nan, np.float32)  # checks sizes; values follow below
        check_context(frames[None], unknown[None], robot, context_frames + 1)
    except ValueError as error:
        raise ValueError(f"start {_shown(origin)} does not fit: {error}") from error
    fitted, misfits = execute_known(actions, robot, origin)
    warn_of(misfits, origin)
    return Context(frames, fitted, episode.instruction, episode.id)


def record_starts(path: Path, count: int) -> None:
    """Render `count` starts of each task on the stand-in robot and save them to `path`.

    Raises:
        ModuleNotFoundError: The `standin` extra is not installed.
    """
    from v2w_gym.standin.env import StandinEnv

    starts: list[Start] = []
    for task in dict.fromkeys(begins_as(task) for task in tasks_of(BUNDLED_ROBOT)):
        env = StandinEnv(task)
        for seed in range(FIRST_SEED, FIRST_SEED + count):
            starts.append(rendered_start(task, seed, env.reset(seed=seed)[0]))
        env.close()
    save_starts(path, StartFile(starts, BUNDLED_ROBOT, camera="", source=BUNDLED_SOURCE))


def rendered_start(task: str, seed: int, frame: NDArray[np.uint8]) -> Start:
    """Return the start that `StandinEnv(task).reset(seed=seed)` shows as `frame` (H, W, 3).

    It has no instruction of its own: tasks that begin with the same scene share it.
    """
    none = np.zeros((0, ROBOTS[BUNDLED_ROBOT].action_size), np.float32)
    return Start(f"{task}/{seed}", frame[None], none, task=task, seed=seed)


@cache
def _bundled() -> StartFile:
    return load_starts(BUNDLED)


def _check_has_starts(robot: RobotSpec, found: object) -> None:
    """Check that the robot has bundled starts."""
    if robot.name != BUNDLED_ROBOT:
        raise ValueError(
            f"expected start to be a picture, video or episode of robot {robot.name!r}, found "
            f"{found!r}; the bundled starts show {BUNDLED_ROBOT!r} only"
        )


def _beginning(
    episode: Episode, robot: RobotSpec, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return up to `count` frames and the actions between them, NaN where unknown."""
    frames, actions = episode.frames[:count], episode.actions
    if len(episode) == 1:
        resting = np.tile(robot.make_action(), (count - 1, 1))
        return np.repeat(frames, count, axis=0), resting
    if actions is None:
        actions = np.full((len(frames) - 1, robot.action_size), np.nan, np.float32)
    return frames, actions[: len(frames) - 1]


@lru_cache(maxsize=16)
def _read_context(
    text: str, stamp: tuple[int, ...] | None, robot: RobotSpec, count: int
) -> Context:
    """Read recorded data; `stamp` makes the cache read a changed file again."""
    return begin_with(open_recording(text, count), robot, count, text)


def _stamp(source: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """Return a stamp that changes with the file; None if there is no file."""
    path, _ = split_path(split_episode(source)[0])
    if not path.exists():
        return None
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size


def _shown(origin: object) -> str:
    return repr(str(origin) if isinstance(origin, os.PathLike) else origin)
