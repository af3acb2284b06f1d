"""Attempts at a task inside a world model: how one begins, goes on, and is judged.

The scalar and the vector environment are both thin over this module, so a rollout is the same in
either.
"""

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs.lookup import lookup
from v2w_gym.starts import BUNDLED_ROBOT, bundled_starts, load_start
from v2w_gym.tasks import TASKS, Task
from world_models.base import FrameNoise, RolloutState, WorldModel, join_states
from world_models.frames import to_uint8

SOLVED_FRAMES = 2
"""Consecutive frames in which the task must be solved for the attempt to be a success."""


class Judge(Protocol):
    """Tells from pictures alone whether a task is solved."""

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        """Return whether the task is solved in the last frame of each video: (B,).

        Args:
            frames: (B, T, H, W, 3) uint8, from the start frame to now.
            task: Name of the task that all B videos attempt.
        """
        ...


@dataclass(frozen=True)
class RolloutKey:
    """What, besides start and actions, a rollout depends on; both in [0, 2**63)."""

    seed: int
    episode: int

    def next(self) -> "RolloutKey":
        """Return the key of the rollout that follows when no new seed is given."""
        return RolloutKey(self.seed, self.episode + 1)


@dataclass(frozen=True)
class Attempt:
    """One attempt from its start frame to now. It is never changed, so it can be branched from.

    Attributes:
        task: What is attempted.
        key: Which random numbers the world model uses.
        state: What the world model remembers, B = 1.
        frames: Every frame so far, (H, W, 3) uint8 each, the start frame first.
        solved: How many of the newest frames, without a gap, the judge calls solved.
        stopped: Whether the policy asked to end the attempt.
    """

    task: Task
    key: RolloutKey
    state: RolloutState
    frames: tuple[NDArray[np.uint8], ...]
    solved: int = 0
    stopped: bool = False

    @property
    def steps(self) -> int:
        """Number of actions taken."""
        return len(self.frames) - 1

    @property
    def success(self) -> bool:
        """Whether the task has just been solved for `SOLVED_FRAMES` frames."""
        return self.solved >= SOLVED_FRAMES

    @property
    def terminated(self) -> bool:
        """Whether the attempt is over for a reason other than time."""
        return self.success or self.stopped

    @property
    def info(self) -> dict[str, Any]:
        """What the environment reports besides the frame."""
        return {
            "task": self.task.name,
            "instruction": self.task.instruction,
            "seed": self.key.seed,
            "episode_index": self.key.episode,
            "success": self.success,
            "is_success": self.success,
        }


@dataclass(frozen=True)
class Setting:
    """Where attempts take place: a world model, a task, a start and a judge.

    Attributes:
        model: The world model.
        judge: Decides success; None means that no attempt ever counts as one.
        task: Name of the task, unless a reset names another.
        start: See `load_start`, unless a reset names another; None draws a bundled start.
    """

    model: WorldModel
    judge: Judge | None
    task: str
    start: int | str | None

    def begin(
        self, keys: Sequence[RolloutKey], options: Sequence[Mapping[str, Any]]
    ) -> list[Attempt]:
        """Begin one attempt per key; its options may name another `task`, `start` or `episode`.

        Raises:
            FileNotFoundError: A start that is no file.
            ValueError: Unknown task or start, or a start of another size than the robot's frames.
        """
        tasks = [lookup(TASKS, chosen.get("task", self.task), "task") for chosen in options]
        keys = [
            replace(key, episode=int(chosen.get("episode", key.episode)))
            for key, chosen in zip(keys, options, strict=True)
        ]
        frames = [
            self._start_frame(chosen.get("start", self.start), task.name, key)
            for chosen, task, key in zip(options, tasks, keys, strict=True)
        ]
        state = self.model.start(np.stack(frames))
        return [
            Attempt(task, key, state.select([row]), (frame,))
            for row, (task, key, frame) in enumerate(zip(tasks, keys, frames, strict=True))
        ]

    def advance(self, attempts: Sequence[Attempt], actions: NDArray[np.float32]) -> list[Attempt]:
        """Take one of `actions` (B, A), checked already, in each of B attempts.

        Attempts of equal history share one call of the model.
        """
        newer = list(attempts)
        stopped = self.model.robot.terminates(actions)
        for rows in _groups([attempt.state.history for attempt in attempts]):
            state = self.model.step(
                join_states([attempts[row].state for row in rows]),
                actions[rows],
                FrameNoise(
                    seeds=tuple(attempts[row].key.seed for row in rows),
                    episodes=tuple(attempts[row].key.episode for row in rows),
                    frames=tuple(len(attempts[row].frames) for row in rows),
                ),
            )
            for i, (row, frame) in enumerate(zip(rows, to_uint8(state.frame), strict=True)):
                newer[row] = replace(
                    attempts[row],
                    state=state.select([i]),
                    frames=(*attempts[row].frames, frame),
                    stopped=bool(stopped[row]),
                )
        return newer if self.judge is None else _judged(self.judge, newer)

    def _start_frame(
        self, source: int | str | None, task: str, key: RolloutKey
    ) -> NDArray[np.uint8]:
        """Load the start; a drawn one depends on the key alone."""
        robot = self.model.robot.name
        if not isinstance(source, str) and robot != BUNDLED_ROBOT:
            raise ValueError(
                f"expected start to be a picture of robot {robot!r}, found {source!r}; the "
                f"bundled starts show {BUNDLED_ROBOT!r}"
            )
        if source is None:
            draw = np.random.default_rng([key.seed, key.episode])
            source = int(draw.integers(len(bundled_starts(task))))
        return load_start(source, task)


def make_setting(
    model: WorldModel | None,
    checkpoint: str | None,
    task: str,
    start: int | str | None,
    judge: Judge | None,
) -> Setting:
    """Check what an environment was given, and load the world model if it has to be loaded.

    Raises:
        FileNotFoundError: A checkpoint or start that is no file.
        ValueError: Both a model and a checkpoint, or an unknown task or start.
    """
    lookup(TASKS, task, "task")
    if start is not None:
        load_start(start, task)
    if model is not None and checkpoint is not None:
        raise ValueError(
            f"expected a model or a checkpoint, found both (checkpoint={checkpoint!r})"
        )
    return Setting(model or load_model(checkpoint), judge, task, start)


def load_model(checkpoint: str | None) -> WorldModel:
    """Return the world model of a checkpoint, or the bundled one; loaded once per process."""
    from world_models.loading import load_world_model

    if checkpoint is None:
        _say_bundled()
    return load_world_model(checkpoint)


def next_key(previous: Attempt | None, seed: int | None, rng: np.random.Generator) -> RolloutKey:
    """Return the key of a slot's next attempt: a seed restarts the episodes, none counts on."""
    if seed is not None:
        return RolloutKey(int(seed), 0)
    if previous is not None:
        return previous.key.next()
    return RolloutKey(int(rng.integers(2**32)), 0)


def check_render_mode(mode: str | None) -> str | None:
    """Return `mode` if it is None or "rgb_array".

    Raises:
        ValueError: Another mode; for "human", make the environment through Gymnasium.
    """
    if mode in (None, "rgb_array"):
        return mode
    raise ValueError(
        f"expected render_mode None or 'rgb_array', found {mode!r}; "
        "gym.make(..., render_mode='human') opens a window around 'rgb_array'"
    )


def _judged(judge: Judge, attempts: list[Attempt]) -> list[Attempt]:
    """Count the solved frames of attempts that have just advanced."""
    judged = list(attempts)
    for rows in _groups([(attempt.task.name, attempt.steps) for attempt in attempts]):
        videos = np.stack([np.stack(attempts[row].frames) for row in rows])
        verdicts = judge.success(videos, attempts[rows[0]].task.name)
        for row, verdict in zip(rows, verdicts, strict=True):
            judged[row] = replace(attempts[row], solved=attempts[row].solved + 1 if verdict else 0)
    return judged


def _groups(labels: Sequence[Hashable]) -> list[list[int]]:
    """Return the rows that share a label, one list per label."""
    groups: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        groups.setdefault(label, []).append(row)
    return list(groups.values())


@cache
def _say_bundled() -> None:
    warnings.warn(
        "using the small bundled world model of the stand-in robot; "
        "pass checkpoint= to use another",
        stacklevel=2,
    )
