"""Attempts at a task inside a world model: how one begins, goes on, and is judged.

The scalar and the vector environment are both thin over this module, so a rollout is the same in
either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2w_gym.starts import Context, draw_start, load_start
from v2w_gym.tasks import Task, find_task
from world_models.base import FrameNoise, RolloutState, WorldModel, join_states, rows_by_label

SOLVED_FRAMES = 2
"""Consecutive frames in which the task must be solved for the attempt to be a success."""


class Judge(Protocol):
    """Tells from pictures alone whether a task is solved."""

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        """Return whether the task is solved in the last frame of each video: (B,).

        Args:
            frames: (B, T, H, W, 3) uint8, from the first context frame to now.
            task: Name of the task that all B videos attempt.
        """
        ...


@dataclass(frozen=True)
class RolloutKey:
    """What, besides start and actions, a rollout depends on; both in [0, 2**63)."""

    seed: int
    episode: int

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        for name, value in (("seed", self.seed), ("episode", self.episode)):
            if not 0 <= value < 2**63:
                raise ValueError(f"expected {name} from 0 to 2**63 - 1, found {value}")

    def next(self) -> "RolloutKey":
        """Return the key of the rollout that follows when no new seed is given."""
        return RolloutKey(self.seed, self.episode + 1)


@dataclass(frozen=True)
class Place:
    """One rollout in a state that it shares with others, so that stepping them copies nothing.

    Attributes:
        batch: What the world model remembers of all of them.
        row: Which of them it is.
    """

    batch: RolloutState
    row: int


@dataclass(frozen=True)
class Attempt:
    """One attempt from its start to now. It is never changed, so it can be branched from.

    Attributes:
        task: What is attempted.
        key: Which random numbers the world model uses.
        place: Where what the world model remembers of it is found; None once it is `closed`.
        frames: Every frame so far, (H, W, 3) uint8 each, those it began with first.
        context_frames: How many of them it began with.
        solved: How many of the newest frames, without a gap, the judge calls solved.
        stopped: Whether the policy asked to end the attempt.
    """

    task: Task
    key: RolloutKey
    place: Place | None
    frames: tuple[NDArray[np.uint8], ...]
    context_frames: int
    solved: int = 0
    stopped: bool = False

    def closed(self) -> "Attempt":
        """Return the attempt as it ended, without what only going on would need."""
        return replace(self, place=None)

    @property
    def steps(self) -> int:
        """Number of actions taken since."""
        return len(self.frames) - self.context_frames

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

        Attempts that begin with equally many frames share one call of the model.

        Raises:
            FileNotFoundError: A start that is no file.
            ValueError: Unknown task or start, or one that is not the robot's.
        """
        robot = self.model.robot
        tasks = [find_task(chosen.get("task", self.task), robot.name) for chosen in options]
        keys = [
            replace(key, episode=int(chosen.get("episode", key.episode)))
            for key, chosen in zip(keys, options, strict=True)
        ]
        starts = [
            (self._source(chosen.get("start", self.start), task, key), task.name)
            for chosen, task, key in zip(options, tasks, keys, strict=True)
        ]
        read = {  # a file that several attempts begin with is read once
            (source, task): load_start(source, task, robot, self.model.context_frames)
            for source, task in dict.fromkeys(starts)
        }
        return self._begun(tasks, keys, [read[start] for start in starts])

    def advance(self, attempts: Sequence[Attempt], actions: NDArray[np.float32]) -> list[Attempt]:
        """Take one of `actions` (B, A), checked already, in each of B attempts that are not closed.

        All share one call of the model, however long each has been going on.
        """
        if not attempts:
            return []
        state = self.model.step(
            _gather([attempt.place for attempt in attempts if attempt.place]),
            actions,
            _noise([a.key for a in attempts], [len(a.frames) for a in attempts]),
        )
        newer = [
            replace(
                attempt,
                place=Place(state, row),
                frames=(*attempt.frames, frame),
                stopped=bool(stopped),
            )
            for row, (attempt, frame, stopped) in enumerate(
                zip(
                    attempts,
                    self.model.render(state),
                    self.model.robot.terminates(actions),
                    strict=True,
                )
            )
        ]
        return newer if self.judge is None else _judged(self.judge, newer)

    def _source(self, start: int | str | None, task: Task, key: RolloutKey) -> int | str:
        """Return where the start comes from; a drawn one depends on the key alone."""
        if start is not None:
            return start
        rng = np.random.default_rng([key.seed, key.episode])
        return draw_start(task.name, self.model.robot, rng)

    def _begun(
        self, tasks: Sequence[Task], keys: Sequence[RolloutKey], contexts: Sequence[Context]
    ) -> list[Attempt]:
        begun: dict[int, Attempt] = {}
        for rows in rows_by_label([len(context.frames) for context in contexts]):
            length = len(contexts[rows[0]].frames)
            state = self.model.start(
                np.stack([contexts[row].frames for row in rows]),
                np.stack([contexts[row].actions for row in rows]),
                _noise([keys[row] for row in rows], [length - 1] * len(rows)),
            )
            for i, row in enumerate(rows):
                frames = tuple(contexts[row].frames)
                begun[row] = Attempt(tasks[row], keys[row], Place(state, i), frames, length)
        return [begun[row] for row in range(len(contexts))]


def next_key(previous: Attempt | None, seed: int | None, rng: np.random.Generator) -> RolloutKey:
    """Return the key of a slot's next attempt: a seed restarts the episodes, none counts on."""
    if seed is not None:
        return RolloutKey(int(seed), 0)
    if previous is not None:
        return previous.key.next()
    return RolloutKey(int(rng.integers(2**32)), 0)


def _judged(judge: Judge, attempts: list[Attempt]) -> list[Attempt]:
    """Count the solved frames of attempts that have just advanced."""
    judged = list(attempts)
    for rows in rows_by_label([(attempt.task.name, len(attempt.frames)) for attempt in attempts]):
        videos = np.stack([np.stack(attempts[row].frames) for row in rows])
        verdicts = judge.success(videos, attempts[rows[0]].task.name)
        for row, verdict in zip(rows, verdicts, strict=True):
            judged[row] = replace(attempts[row], solved=attempts[row].solved + 1 if verdict else 0)
    return judged


def _noise(keys: Sequence[RolloutKey], frames: Sequence[int]) -> FrameNoise:
    """Return the noise of one frame of each rollout, `frames` being their indices."""
    return FrameNoise(
        seeds=tuple(key.seed for key in keys),
        episodes=tuple(key.episode for key in keys),
        frames=tuple(frames),
    )


def _gather(places: Sequence[Place]) -> RolloutState:
    """Return rollouts as one state; those that lie together in order are not copied."""
    batch = places[0].batch
    if all(place.batch is batch for place in places):
        return batch.select([place.row for place in places])
    return join_states([place.batch.select([place.row]) for place in places])
