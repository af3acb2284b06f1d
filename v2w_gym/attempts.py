"""Attempts at a task inside a world model: how one begins, goes on, and is judged.

The scalar and the vector environment are both thin over this module, so a rollout is the same in
either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import ClippedActions
from v2w_gym.configs.tasks import Task, find_task
from v2w_gym.judges.asking import ask_success
from v2w_gym.judges.base import StepJudge
from v2w_gym.progress import Progress, RolloutKey
from v2w_gym.starts import Context, draw_start, load_start
from v2w_gym.world_models.base import (
    FrameNoise,
    RolloutState,
    WorldModel,
    join_states,
    rows_by_label,
)


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
        progress: What the judge and the actions have said so far.
    """

    task: Task
    key: RolloutKey
    place: Place | None
    frames: tuple[NDArray[np.uint8], ...]
    context_frames: int
    progress: Progress

    def closed(self) -> "Attempt":
        """Return the attempt as it ended, without what only going on would need."""
        return replace(self, place=None)

    @property
    def steps(self) -> int:
        """Number of actions taken since."""
        return len(self.frames) - self.context_frames

    @property
    def success(self) -> bool:
        """Whether the policy has just solved the task; see `Progress`."""
        return self.progress.success

    @property
    def terminated(self) -> bool:
        """Whether the attempt is over for a reason other than time."""
        return self.progress.terminated

    @property
    def info(self) -> dict[str, Any]:
        """What the environment reports besides the frame."""
        return self.progress.info(self.task, self.key)


@dataclass(frozen=True)
class Setting:
    """Where attempts take place: a world model, a task, a start and a judge.

    Attributes:
        model: The world model.
        judge: Decides success; None means that nothing is said of success.
        task: Name of the task, unless a reset names another.
        start: See `load_start`, unless a reset names another; None draws a bundled start.
    """

    model: WorldModel
    judge: StepJudge | None
    task: str
    start: int | str | None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Setting":
        """Share it: nothing in it changes, and a network is not copied to branch an attempt."""
        return self

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
            replace(key, episode=chosen.get("episode", key.episode))
            for key, chosen in zip(keys, options, strict=True)
        ]
        contexts = [
            load_start(
                self._source(chosen.get("start", self.start), task, key),
                task.name,
                robot,
                self.model.context_frames,
            )
            for chosen, task, key in zip(options, tasks, keys, strict=True)
        ]
        return self._begun(tasks, keys, contexts)

    def advance(self, attempts: Sequence[Attempt], fitted: ClippedActions) -> list[Attempt]:
        """Take one action in each of B attempts that are not closed.

        All share one call of the model, however long each has been going on.
        """
        if not attempts:
            return []
        state = self.model.step(
            _gather([attempt.place for attempt in attempts if attempt.place]),
            fitted.actions,
            _noise([a.key for a in attempts], [len(a.frames) for a in attempts]),
        )
        clipped: NDArray[np.bool_] = np.any(fitted.clipped, axis=1)
        stopped = self.model.robot.terminates(fitted.actions)
        newer = [
            replace(
                attempt,
                place=Place(state, row),
                frames=(*attempt.frames, frame),
                progress=attempt.progress.acted(
                    stopped=bool(stopped[row]),
                    clipped=bool(clipped[row]),
                    not_one_hot=bool(fitted.not_one_hot[row]),
                ),
            )
            for row, (attempt, frame) in enumerate(
                zip(attempts, self.model.render(state), strict=True)
            )
        ]
        return [
            replace(attempt, progress=attempt.progress.seen(solved))
            for attempt, solved in zip(newer, self._solved(newer), strict=True)
        ]

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
                frames, progress = tuple(contexts[row].frames), Progress(self.judge is not None)
                begun[row] = Attempt(
                    tasks[row], keys[row], Place(state, i), frames, length, progress
                )
        attempts = [begun[row] for row in range(len(contexts))]
        return [
            replace(attempt, progress=attempt.progress.began(solved))
            for attempt, solved in zip(attempts, self._solved(attempts), strict=True)
        ]

    def _solved(self, attempts: Sequence[Attempt]) -> list[bool]:
        """Return whether the judge calls the newest frame of each attempt solved."""
        solved = [False] * len(attempts)
        if self.judge is None:
            return solved
        for rows in rows_by_label([(a.task.name, len(a.frames)) for a in attempts]):
            videos = np.stack([np.stack(attempts[row].frames) for row in rows])
            verdicts = ask_success(self.judge, videos, attempts[rows[0]].task.name)
            for row, verdict in zip(rows, verdicts, strict=True):
                solved[row] = verdict
        return solved


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
