"""Run policies closed loop in a world model; each rollout gives one row and one video."""

import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
from gymnasium.vector import AutoresetMode
from tqdm import tqdm

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.configs.tasks import TASKS
from v2w_gym.evaluation.closed_loop import (
    Finished,
    check_distinct,
    policy_seed,
    run_attempts,
    start_seeds,
)
from v2w_gym.evaluation.judges.checks import check_rollout_judge
from v2w_gym.evaluation.records.rows import (
    ROWS,
    Key,
    RolloutStore,
    Row,
    load_rows,
    run_identity,
    video_name,
)
from v2w_gym.judges.base import Judge, checked_verdicts
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.base import WorldModel, check_identified
from v2w_gym.world_models.run_folder import RunFolder, hold_folder


@dataclass(frozen=True)
class Batch:
    """Rollouts of one policy on one task that run together, one per slot.

    Attributes:
        policy: The policy that acts.
        task: Name of the task.
        starts: Index of each rollout's start.
        start_seeds: Seed of each start on the robot.
        seeds: Seed of each rollout's noise.
    """

    policy: RobotPolicy
    task: str
    starts: tuple[int, ...]
    start_seeds: tuple[int, ...]
    seeds: tuple[int, ...]


def run_rollouts(
    cfg: RankConfig, model: WorldModel, policies: Sequence[RobotPolicy], judge: Judge
) -> pd.DataFrame:
    """Run every policy on every task from every start with every seed; keep finished rollouts.

    A rollout depends on its policy, task, start and seed alone, so neither order nor interruptions
    change the rows. The batch size changes rounding in the world model.

    Returns:
        The rows of the run; see `v2w_gym.evaluation.records.rows.load_rows`.

    Raises:
        BlockingIOError: Another process uses the folder.
        OSError: The run folder cannot be written, or the disk is full.
        ValueError: As `check_rollouts`, or the folder holds another run.
    """
    check_rollouts(cfg, model, policies, judge)
    with hold_folder(Path(cfg.output)) as path:
        folder = RunFolder(path, run_identity(cfg, model, policies, judge)).begin()
        _fill(RolloutStore(folder), cfg, model, policies, judge)
        return load_rows(folder / ROWS)


def check_rollouts(
    cfg: RankConfig, model: WorldModel, policies: Sequence[RobotPolicy], judge: Judge
) -> None:
    """Check a run before its first rollout; nothing is written.

    Raises:
        ValueError: The world model has no card, there are fewer starts, two policies have the same
            name, or the judge does not know the tasks or frames.
    """
    check_identified(model)
    for task in cfg.tasks:
        start_seeds(task, cfg.starts)
    check_distinct(policies)
    check_rollout_judge(judge, model, cfg.tasks)


def _fill(
    store: RolloutStore,
    cfg: RankConfig,
    model: WorldModel,
    policies: Sequence[RobotPolicy],
    judge: Judge,
) -> None:
    """Run the rollouts that the store lacks, and save each as soon as it ends."""
    total = len(policies) * len(cfg.tasks) * cfg.starts * cfg.seeds
    began, frames = time.perf_counter(), 0
    with tqdm(total=total, initial=len(store.done), unit="rollout") as progress:
        for batch in _batches(cfg, policies, frozenset(store.done)):
            for rollout in _roll(model, judge, batch):
                row = _judge(rollout, batch, judge, model.fingerprint)
                store.save(row, rollout.frames, model.robot.control_hz)
                frames += rollout.steps
                speed = frames / (time.perf_counter() - began)
                progress.set_postfix_str(f"{speed:.1f} frames/s", refresh=False)
                progress.update()


def _batches(
    cfg: RankConfig, policies: Sequence[RobotPolicy], done: Container[Key]
) -> Iterator[Batch]:
    """Yield the missing rollouts, in the largest possible batches of one policy and task."""
    for policy, task in product(policies, cfg.tasks):
        seeds = start_seeds(task, cfg.starts)
        left = [
            (start, seeds[start], seed)
            for start, seed in product(range(cfg.starts), range(cfg.seeds))
            if (policy.meta.name, task, start, seed) not in done
        ]
        size = min(cfg.batch_size, policy.meta.max_batch or cfg.batch_size)
        for first in range(0, len(left), size):
            yield Batch(policy, task, *zip(*left[first : first + size], strict=True))


def _roll(model: WorldModel, judge: Judge, batch: Batch) -> Iterator[Finished]:
    """Run the policy in every slot, and yield each rollout as soon as it ends."""
    slots, horizon = len(batch.starts), TASKS[batch.task].horizon
    envs = Vid2WorldVectorEnv(
        slots, horizon, model, judge=judge, autoreset_mode=AutoresetMode.DISABLED
    )
    return run_attempts(
        envs,
        batch.policy,
        env_seeds=batch.seeds,
        policy_seeds=list(map(policy_seed, batch.start_seeds, batch.seeds)),
        # The episode is the start's index, so that no two rollouts share their noise.
        options={"task": batch.task, "starts": batch.starts, "episodes": batch.starts},
    )


def _judge(rollout: Finished, batch: Batch, judge: Judge, model_fingerprint: str) -> Row:
    """Judge all frames of a rollout, and return its row."""
    verdicts = checked_verdicts(judge, rollout.frames[None], batch.task)
    undecided = bool(verdicts.abstained[0]) or rollout.solved_at_start
    name, start, seed = (
        batch.policy.meta.name,
        batch.starts[rollout.slot],
        batch.seeds[rollout.slot],
    )
    return Row(
        policy=name,
        task=batch.task,
        start=start,
        start_seed=batch.start_seeds[rollout.slot],
        seed=seed,
        success=None if undecided else bool(verdicts.success[0]),
        steps=rollout.steps,
        score=round(float(verdicts.score[0]), 4),
        judge=judge.name,
        policy_fingerprint=batch.policy.fingerprint,
        model_fingerprint=model_fingerprint,
        video=video_name(name, batch.task, start, seed),
        events=dict(rollout.events),
    )
