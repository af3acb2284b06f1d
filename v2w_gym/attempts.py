"""Attempts at a task in a world model: begin them, step them, and judge them.

The scalar and the vector environment are thin layers over this module, so a rollout is the same in
both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import ClippedActions, RobotSpec
from v2w_gym.configs.tasks import Task
from v2w_gym.interface import Progress, RolloutKey, checked_success
from v2w_gym.judges.base import StepJudge
from v2w_gym.starts import Context, draw_start, load_start
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.state import FrameNoise, RolloutState, join_states, rows_by_label


@dataclass(frozen=True)
class Plan:
    """What determines an attempt, except for its actions.

    Attributes:
        key: Key of the world model's noise.
        task: The task.
        start: See `load_start`; None draws a bundled start.
        task_instruction: Whether the instruction is the task's even if the start has its own.
    """

    key: RolloutKey
    task: Task
    start: int | str | None
    task_instruction: bool = True


@dataclass(frozen=True)
class Attempt:
    """One attempt from its start to the present. It is immutable, so it can be branched from.

    Attributes:
        task: The task.
        key: Key of the world model's random numbers.
        batch: State of all rollouts that last stepped together. They share it, so that stepping
            them again copies nothing. None once the attempt is `closed`.
        row: The attempt's row in `batch`.
        frames: All frames so far, (H, W, 3) uint8 each, the initial ones first.
        context_frames: Number of initial frames.
        progress: Success, endings and counts so far.
    """

    task: Task
    key: RolloutKey
    batch: RolloutState | None
    row: int
    frames: tuple[NDArray[np.uint8], ...]
    context_frames: int
    progress: Progress

    def closed(self) -> "Attempt":
        """Return the attempt without the state that further steps would need."""
        return replace(self, batch=None)

    @property
    def steps(self) -> int:
        """Number of actions taken."""
        return len(self.frames) - self.context_frames

    @property
    def info(self) -> dict[str, Any]:
        """The environment's `info`."""
        return self.progress.info(self.task, self.key)


@dataclass(frozen=True)
class Simulation:
    """A world model and a judge.

    Attributes:
        model: The world model.
        judge: Decides on success; None for no judge.
    """

    model: WorldModel
    judge: StepJudge | None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Simulation":
        """Return the simulation itself: it is immutable, so its network need not be copied."""
        return self

    def begin(self, plans: Sequence[Plan]) -> list[Attempt]:
        """Begin one attempt per plan; starts of equal length share one call of the model.

        Raises:
            FileNotFoundError: The start is a path without a file.
            ValueError: Unknown start, or a start of another robot.
        """
        robot = self.model.robot
        contexts = [
            load_start(
                _drawn(plan, robot) if plan.start is None else plan.start,
                plan.task.name,
                robot,
                self.model.context_frames,
            )
            for plan in plans
        ]
        begun: dict[int, Attempt] = {}
        for rows in rows_by_label([len(context.frames) for context in contexts]):
            length = len(contexts[rows[0]].frames)
            state = self.model.start(
                np.stack([contexts[row].frames for row in rows]),
                np.stack([contexts[row].actions for row in rows]),
                _noise([plans[row].key for row in rows], [length - 1] * len(rows)),
            )
            for place, row in enumerate(rows):
                plan, context = plans[row], contexts[row]
                frames, progress = tuple(context.frames), Progress(self.judge is not None)
                task = _task_of(plan, context)
                begun[row] = Attempt(task, plan.key, state, place, frames, length, progress)
        attempts = [begun[row] for row in range(len(plans))]
        return [
            replace(attempt, progress=attempt.progress.began(solved))
            for attempt, solved in zip(attempts, self._solved(attempts), strict=True)
        ]

    def advance(self, attempts: Sequence[Attempt], taken: ClippedActions) -> list[Attempt]:
        """Take one action in each of B attempts that are not closed.

        All share one call of the model, also if they are at different steps.
        """
        if not attempts:
            return []
        state = self.model.step(
            _gather(attempts),
            taken.actions,
            _noise([a.key for a in attempts], [len(a.frames) for a in attempts]),
        )
        newer = [
            replace(
                attempt,
                batch=state,
                row=row,
                frames=(*attempt.frames, frame),
                progress=attempt.progress.took(self.model.robot, taken.select([row])),
            )
            for row, (attempt, frame) in enumerate(
                zip(attempts, self.model.render(state), strict=True)
            )
        ]
        return [
            replace(attempt, progress=attempt.progress.observed(solved))
            for attempt, solved in zip(newer, self._solved(newer), strict=True)
        ]

    def _solved(self, attempts: Sequence[Attempt]) -> list[bool]:
        """Return the judge's verdict on the newest frame of each attempt; False without a judge."""
        solved = [False] * len(attempts)
        if self.judge is None:
            return solved
        for rows in rows_by_label([(a.task.name, len(a.frames)) for a in attempts]):
            videos = np.stack([np.stack(attempts[row].frames) for row in rows])
            verdicts = checked_success(self.judge, videos, attempts[rows[0]].task.name)
            for row, verdict in zip(rows, verdicts, strict=True):
                solved[row] = verdict
        return solved


def _noise(keys: Sequence[RolloutKey], frames: Sequence[int]) -> FrameNoise:
    """Return the noise of one frame of each rollout; `frames` has the indices of the frames."""
    return FrameNoise(
        seeds=tuple(key.seed for key in keys),
        episodes=tuple(key.episode for key in keys),
        frames=tuple(frames),
    )


def _task_of(plan: Plan, context: Context) -> Task:
    """Return the task of an attempt, perhaps with the instruction that was recorded."""
    if plan.task_instruction or context.instruction is None:
        return plan.task
    return replace(plan.task, instruction=context.instruction)


def _drawn(plan: Plan, robot: RobotSpec) -> int:
    """Draw a bundled start, which depends on the key alone."""
    rng = np.random.default_rng([plan.key.seed, plan.key.episode])
    return draw_start(plan.task.name, robot, rng)


def _gather(attempts: Sequence[Attempt]) -> RolloutState:
    """Return the rollouts as one state, without a copy if they share a batch."""
    batch = attempts[0].batch
    if batch is not None and all(attempt.batch is batch for attempt in attempts):
        return batch.select([attempt.row for attempt in attempts])
    return join_states([a.batch.select([a.row]) for a in attempts if a.batch is not None])
