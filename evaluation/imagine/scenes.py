"""Inputs of rollouts: initial frames, actions, and recorded frames of the same actions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.evaluate import ImagineConfig, RolloutConfig
from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import Task, find_task, tasks_of
from v2w_gym.starts import Context, begin_with, load_start, open_recording
from v2w_gym.world_models.data.decoding.arrays import as_numbers, read_array, reading
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.fit import in_robots_order
from v2w_gym.world_models.data.recorded_actions import (
    NO_MISFITS,
    Misfits,
    execute_recorded,
    warn_of,
)
from v2w_gym.world_models.data.sources.opening import read_one, split_episode, split_path
from v2w_gym.world_models.frames import fit

WITHOUT_FILE = ["held", "idle", "recorded"]
WITHOUT_ACTIONS = (
    "expected a recording that holds actions, found {}; choose actions=held, actions=idle or a "
    "file of actions"
)


@dataclass(frozen=True)
class Script:
    """The actions of a rollout of N steps.

    Attributes:
        title: Short description.
        actions: (N, A).
        moves: Name of each action; empty if it has none.
        recorded: (N + 1, H, W, 3) uint8, a recording of the same actions, from the newest initial
            frame on; None without a recording.
        misfits: What the actions lacked before they were fitted to the robot.
        instruction: Instruction of the policy that acts; None if none does.
    """

    title: str
    actions: NDArray[np.float32]
    moves: tuple[str, ...]
    recorded: NDArray[np.uint8] | None = None
    misfits: Misfits = NO_MISFITS
    instruction: str | None = None


@dataclass(frozen=True)
class Scenes:
    """N rollouts of T steps, to imagine more than once.

    Attributes:
        task: Name of the task.
        frames: (N, K, H, W, 3) uint8, initial frames.
        known: (N, K - 1, A) actions between them; NaN where an action is unknown.
        actions: (N, T, A) actions after them.
        recorded: (N, T + 1, H, W, 3) uint8, recordings of the same actions, from the newest
            initial frame on; None without recordings.
    """

    task: str
    frames: NDArray[np.uint8]
    known: NDArray[np.float32]
    actions: NDArray[np.float32]
    recorded: NDArray[np.uint8] | None

    @property
    def digest(self) -> str:
        """The sha256 of all inputs of the world model."""
        arrays = self.frames, self.known, self.actions
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@dataclass(frozen=True)
class _Given:
    """Actions (N, A) from a file, and the frames (N + 1, H, W, 3) around them."""

    title: str
    origin: str | Path
    actions: NDArray[np.float32]
    frames: NDArray[np.uint8] | None = None


def choose_task(cfg: ImagineConfig, robot: RobotSpec) -> Task:
    """Return the task in the settings, or else the robot's first task.

    Raises:
        ValueError: Unknown task, or a task of other robots.
    """
    return find_task(cfg.task or next(iter(tasks_of(robot.name))), robot.name)


def load_context(cfg: ImagineConfig, robot: RobotSpec, frames: int) -> Context:
    """Return the first `frames` frames of `cfg.start`, or as many as a recording has.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No such start, or frames of another size without `fit`.
    """
    task = choose_task(cfg, robot).name
    if not (cfg.fit and isinstance(cfg.start, str)):
        return load_start(cfg.start, task, robot, frames)
    recorded = open_recording(cfg.start, frames)
    shown = fit(recorded.frames[:frames], robot.frame_size)
    fitted = replace(recorded, frames=shown, robot=robot.name)
    return begin_with(fitted, robot, frames, cfg.start)


def write_script(cfg: RolloutConfig, robot: RobotSpec, known: int, longest: float) -> Script:
    """Choose the actions of a rollout.

    Args:
        cfg: Settings.
        robot: Robot that takes the actions.
        known: Number of initial frames.
        longest: Largest number of steps, or infinity.

    Raises:
        FileNotFoundError: No such file of actions.
        ValueError: Unknown actions, too few of them, or some that the robot cannot execute.
    """
    given = _read_given(cfg, robot, known, longest)
    steps = _count_steps(cfg, choose_task(cfg, robot).horizon, given, longest)
    if cfg.actions == "held":
        moves = draw_moves(cfg, robot, steps)
        actions = np.stack([robot.moves[move] for move in moves])
        return Script(f"random moves, each held for {cfg.hold} frames", actions, moves)
    unnamed = ("",) * steps
    if given is None:
        return Script("doing nothing", np.tile(robot.make_action(), (steps, 1)), unnamed)
    actions, misfits = execute_recorded(given.actions[:steps], robot, given.origin)
    recorded = None if given.frames is None else given.frames[: steps + 1]
    return Script(given.title, actions, unnamed, recorded, misfits)


def stack_scenes(
    rollouts: Sequence[RolloutConfig], task: Task, robot: RobotSpec, known: int, origin: str
) -> Scenes:
    """Read or draw rollouts with the same number of steps, each from `known` initial frames.

    Raises:
        ValueError: A rollout with fewer initial frames, or as for `write_script`.
    """
    contexts, scripts = [], []
    for rollout in rollouts:
        context = load_context(rollout, robot, known)
        if len(context.frames) != known:
            raise ValueError(
                f"expected at least {known} frames to begin with in {rollout.start}, found "
                f"{len(context.frames)}"
            )
        contexts.append(context)
        scripts.append(write_script(rollout, robot, known, inf))
    warn_of(sum((script.misfits for script in scripts), NO_MISFITS), origin)
    recorded = [script.recorded for script in scripts if script.recorded is not None]
    return Scenes(
        task=task.name,
        frames=np.stack([context.frames for context in contexts]),
        known=np.stack([context.actions for context in contexts]),
        actions=np.stack([script.actions for script in scripts]),
        recorded=np.stack(recorded) if recorded else None,
    )


def draw_moves(cfg: RolloutConfig, robot: RobotSpec, steps: int) -> tuple[str, ...]:
    """Draw one of the robot's moves for every `cfg.hold` steps; a longer rollout begins the same.

    Raises:
        ValueError: Unknown move, or none at all.
    """
    names = list(robot.moves) if cfg.moves is None else cfg.moves
    if not names:
        raise ValueError("expected at least one move to draw from, found none in moves")
    for name in names:
        lookup(robot.moves, name, f"move of robot {robot.name!r}")
    rng = np.random.default_rng([cfg.seed, cfg.episode])
    drawn = rng.integers(len(names), size=-(-steps // cfg.hold))
    return tuple(names[drawn[step // cfg.hold]] for step in range(steps))


def _count_steps(cfg: RolloutConfig, horizon: int, given: _Given | None, longest: float) -> int:
    available = horizon if given is None else len(given.actions)
    most = longest if given is None else min(longest, available)
    steps = int(min(available, longest)) if cfg.steps is None else cfg.steps
    if not 1 <= steps <= most:
        of = "" if given is None or cfg.actions != "recorded" else f" of {given.origin}"
        raise ValueError(
            f"expected steps from 1 to {most} for mode={cfg.mode} and actions={cfg.actions}{of}, "
            f"found {steps}"
        )
    return steps


def _read_given(cfg: RolloutConfig, robot: RobotSpec, known: int, longest: float) -> _Given | None:
    """Read actions from a file; None if the settings name none."""
    if cfg.actions in ("held", "idle"):
        return None
    steps = longest if cfg.steps is None else max(cfg.steps, 0)
    if cfg.actions == "recorded":
        return _read_start(cfg, robot, known, steps)
    path, _ = split_path(split_episode(cfg.actions)[0])
    if not path.exists():
        raise FileNotFoundError(
            f"expected actions to be one of {WITHOUT_FILE} or recorded data, found {cfg.actions!r}"
            f"{hint(cfg.actions, WITHOUT_FILE)}"
        )
    title = f"the actions in {path.name}"
    if path.suffix == ".npy":
        return _Given(title, path, _load_actions(path))
    episode = in_robots_order(read_one(cfg.actions), robot)
    if episode.robot not in (None, robot.name):
        raise ValueError(f"expected robot {robot.name!r} in {path}, found {episode.robot!r}")
    return _Given(title, path, _actions(episode, cfg.actions))


def _read_start(cfg: RolloutConfig, robot: RobotSpec, known: int, steps: float) -> _Given:
    """Read actions and frames of the start's recording, from the newest initial frame on."""
    if not isinstance(cfg.start, str):
        raise ValueError(WITHOUT_ACTIONS.format(repr(cfg.start)))
    episode = in_robots_order(open_recording(cfg.start, known), robot)
    last = None if steps == inf else known + int(steps)
    actions = _actions(episode, cfg.start)[known - 1 :]
    frames = episode.frames[known - 1 : last]
    if cfg.fit:
        frames = fit(frames, robot.frame_size)
    return _Given("the actions that were recorded", cfg.start, actions, frames)


def _load_actions(path: Path) -> NDArray[np.float32]:
    with reading(path, f"actions (N, A) in {path}"):
        given = read_array(path)
    if given.ndim != 2 or given.dtype.kind not in "fiu":
        raise ValueError(f"expected numbers (N, A) in {path}, found {given.dtype} {given.shape}")
    return as_numbers("actions", given, 2)


def _actions(episode: Episode, source: str) -> NDArray[np.float32]:
    if episode.actions is None:
        raise ValueError(WITHOUT_ACTIONS.format(repr(source)))
    return episode.actions
