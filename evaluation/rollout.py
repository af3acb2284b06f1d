"""Run policies in a world model, closed loop, and compare them with trials on the robot."""

import shlex
import time
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from gymnasium.vector import AutoresetMode
from tqdm import tqdm

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.configs.names import hint
from v2w_gym.configs.tasks import TASKS
from v2w_gym.evaluation.closed_loop import Finished, policy_seed, run_attempts
from v2w_gym.evaluation.compare.comparison import Comparison, compare
from v2w_gym.evaluation.compare.rates import check_tables
from v2w_gym.evaluation.gate.committed import accuracy_on_generated, committed_gate, gate_notes
from v2w_gym.evaluation.judges.checks import check_rollout_judge
from v2w_gym.evaluation.records.rows import ROWS, Key, RolloutStore, Row, load_rows, video_name
from v2w_gym.evaluation.report.report import write_report
from v2w_gym.evaluation.trials import check_distinct, check_fingerprints, choose_starts, load_trials
from v2w_gym.judges.asking import ask_verdicts
from v2w_gym.judges.base import Judge
from v2w_gym.judges.loading import load_judge
from v2w_gym.policies.base import Policy
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.base import WorldModel, check_identified
from v2w_gym.world_models.loading import load_with
from v2w_gym.world_models.run_folder import RunFolder, hold_folder

Batch: TypeAlias = tuple[RobotPolicy, str, list[tuple[int, int]]]
"""A policy, a task, and the (start, seed) of rollouts that run together."""


def rank(
    cfg: RankConfig,
    *,
    model: WorldModel | None = None,
    policies: Sequence[Policy | RobotPolicy] | None = None,
    judge: Judge | None = None,
) -> Comparison:
    """Run what is not done yet, compare it with trials on the robot, and write the report.

    A policy that was never tried on the robot is simulated all the same: its rate is in the cells
    and in the report, and the statistics rest on the others.

    Args:
        cfg: What to run, and where the results go.
        model: A world model to use instead of `cfg.checkpoint`, with the sampler that it has.
        policies: Policies to use instead of `cfg.policies`; each as it is, or as a `RobotPolicy`
            with settings of its own.
        judge: A judge to use instead of `cfg.judge`.

    Raises:
        ConnectionError: A policy server that does not answer.
        FileNotFoundError: A checkpoint or table that does not exist.
        OSError: The run folder cannot be written, or the disk is full.
        ValueError: A setting unknown or out of range, the folder of another run, a judge that does
            not know the tasks or frames, or trials of other weights or of other starts.
    """
    model = model or load_with(cfg)
    judge = judge or load_judge(cfg.judge, model.robot)
    trials = load_trials(cfg.trials)
    with make_policies(cfg.policies if policies is None else policies, model.robot) as drivers:
        check_rollouts(cfg, model, drivers, judge)
        real = _relevant(trials, cfg, drivers)
        rows = _roll(cfg, model, drivers, judge)
    gate = committed_gate(model.fingerprint, judge.name)
    comparison = compare(rows, real)
    notes = (
        *comparison.notes,
        *_name_notes(comparison, trials),
        *_trial_notes(cfg, comparison, as_words=policies is None),
        *gate_notes(gate, cfg.tasks),
        *_event_notes(rows),
    )
    comparison = replace(comparison, notes=notes)
    judge_card = dict(judge.card)
    if gate:
        judge_card["generated"] = accuracy_on_generated(gate)
    write_report(Path(cfg.output), comparison, rows, real, judge_card, model.card)
    return comparison


def run_rollouts(
    cfg: RankConfig, model: WorldModel, drivers: Sequence[RobotPolicy], judge: Judge
) -> pd.DataFrame:
    """Run every policy on every task from every start with every seed; keep what is done already.

    A rollout depends on its policy, task, start and seed alone: the rows are the same for any order
    and after any interruption; another batch size changes the rounding in the world model.

    Returns:
        The rows of the run; see `v2w_gym.evaluation.records.rows.load_rows`.

    Raises:
        BlockingIOError: Another process runs in the folder.
        OSError: The run folder cannot be written, or the disk is full.
        ValueError: As `check_rollouts`, or the folder of another run.
    """
    check_rollouts(cfg, model, drivers, judge)
    return _roll(cfg, model, drivers, judge)


def check_rollouts(
    cfg: RankConfig, model: WorldModel, drivers: Sequence[RobotPolicy], judge: Judge
) -> None:
    """Check before the first rollout whatever can be; nothing is written.

    Raises:
        ValueError: A world model without a card, more starts than there are, two policies of one
            name, or a judge that does not know the tasks or frames.
    """
    check_identified(model)
    for task in cfg.tasks:
        choose_starts(task, cfg.starts)
    check_distinct(drivers)
    check_rollout_judge(judge, model, cfg.tasks)


def run_identity(
    cfg: RankConfig, model: WorldModel, drivers: Sequence[RobotPolicy], judge: Judge
) -> dict[str, Any]:
    """Return what must not change when a run is resumed."""
    return {
        "model": model.fingerprint,
        "judge": judge.name,
        "policies": {driver.meta.name: driver.identity for driver in drivers},
        "tasks": cfg.tasks,
        "starts": cfg.starts,
        "seeds": cfg.seeds,
    }


def _roll(
    cfg: RankConfig, model: WorldModel, drivers: Sequence[RobotPolicy], judge: Judge
) -> pd.DataFrame:
    """Do what `run_rollouts` does once its arguments are checked."""
    with hold_folder(Path(cfg.output)) as path:
        folder = RunFolder(path, run_identity(cfg, model, drivers, judge)).begin()
        return _fill(RolloutStore(folder), cfg, model, drivers, judge)


def _fill(
    rollouts: RolloutStore,
    cfg: RankConfig,
    model: WorldModel,
    drivers: Sequence[RobotPolicy],
    judge: Judge,
) -> pd.DataFrame:
    starts = {task: choose_starts(task, cfg.starts) for task in cfg.tasks}
    fingerprint = model.fingerprint
    total = len(drivers) * len(cfg.tasks) * cfg.starts * cfg.seeds
    began, frames = time.perf_counter(), 0
    with tqdm(total=total, initial=len(rollouts.done), unit="rollout") as progress:
        for driver, task, chosen in _batches(cfg, drivers, frozenset(rollouts.done)):
            name, seeds = driver.meta.name, [starts[task][start].seed for start, _ in chosen]
            for attempt in _imagine(model, judge, (driver, task, chosen), seeds):
                start, seed = chosen[attempt.slot]
                verdict = ask_verdicts(judge, attempt.frames[None], task)
                undecided = bool(verdict.abstained[0]) or attempt.solved_at_start
                row = Row(
                    policy=name,
                    task=task,
                    start=start,
                    start_seed=seeds[attempt.slot],
                    seed=seed,
                    success=None if undecided else bool(verdict.success[0]),
                    steps=attempt.steps,
                    score=round(float(verdict.score[0]), 4),
                    judge=judge.name,
                    policy_fingerprint=driver.fingerprint,
                    model_fingerprint=fingerprint,
                    video=video_name(name, task, start, seed),
                    events=dict(attempt.events),
                )
                rollouts.save(row, attempt.frames, model.robot.control_hz)
                frames += attempt.steps
                speed = frames / (time.perf_counter() - began)
                progress.set_postfix_str(f"{speed:.1f} frames/s", refresh=False)
                progress.update()
    return load_rows(rollouts.path / ROWS)


def _event_notes(rows: pd.DataFrame) -> Iterator[str]:
    """Say what went wrong while policies acted, and in how many of their rollouts."""
    for policy, events in rows.groupby("policy")["events"]:
        times = sum((Counter(found) for found in events), Counter[str]())
        for event, count in sorted(times.items()):
            touched = sum(event in found for found in events)
            yield f"{policy}: {event}, {count} times in {touched} of {len(events)} rollouts."


def _batches(
    cfg: RankConfig, drivers: Sequence[RobotPolicy], done: Container[Key]
) -> Iterator[Batch]:
    """Yield what is not done, as many rollouts of one policy and task at a time as may be."""
    for driver, task in product(drivers, cfg.tasks):
        left = [
            (start, seed)
            for start, seed in product(range(cfg.starts), range(cfg.seeds))
            if (driver.meta.name, task, start, seed) not in done
        ]
        size = min(cfg.batch_size, driver.meta.max_batch or cfg.batch_size)
        for first in range(0, len(left), size):
            yield driver, task, left[first : first + size]


def _imagine(
    model: WorldModel, judge: Judge, batch: Batch, start_seeds: Sequence[int]
) -> Iterator[Finished]:
    driver, task, chosen = batch
    envs = Vid2WorldVectorEnv(
        len(chosen), TASKS[task].horizon, model, judge=judge, autoreset_mode=AutoresetMode.DISABLED
    )
    starts = [start for start, _ in chosen]
    return run_attempts(
        envs,
        driver,
        env_seeds=[seed for _, seed in chosen],
        policy_seeds=[
            policy_seed(start_seed, seed)
            for start_seed, (_, seed) in zip(start_seeds, chosen, strict=True)
        ],
        options={"task": task, "starts": starts, "episodes": starts},
    )


def _relevant(
    trials: pd.DataFrame, cfg: RankConfig, drivers: Sequence[RobotPolicy]
) -> pd.DataFrame:
    """Return the trials of these policies on these tasks, once it is sure that they will fit."""
    names = [driver.meta.name for driver in drivers]
    planned = pd.DataFrame(
        [
            {"policy": name, "task": task, "start": i, "start_seed": start.seed, "seed": 0}
            for name, task in product(names, cfg.tasks)
            for i, start in enumerate(choose_starts(task, cfg.starts))
        ]
    )
    check_tables(planned.assign(success=None), trials)
    check_fingerprints(trials, {driver.meta.name: driver.fingerprint for driver in drivers})
    return trials[trials["policy"].isin(names) & trials["task"].isin(cfg.tasks)]


def _name_notes(comparison: Comparison, trials: pd.DataFrame) -> Iterator[str]:
    """Ask whether a policy without trials was tried under a name that is nearly the same."""
    tried = sorted(set(trials["policy"]) - set(comparison.simulated_policies))
    for policy in comparison.simulated_policies:
        near = "" if policy in comparison.policies else hint(policy, tried)
        if near:
            yield f"{policy} has no trials{near}"


def _trial_notes(cfg: RankConfig, comparison: Comparison, *, as_words: bool) -> Iterator[str]:
    """Say how trials of the policies that have none would be added."""
    lacking = [cell for cell in comparison.cells if not cell.real.n]
    if not lacking:
        return
    tasks = [task for task in cfg.tasks if any(cell.task == task for cell in lacking)]
    lists = [f"policies=[{','.join(cfg.policies)}]", f"tasks=[{','.join(tasks)}]"]
    command = f"v2w trials output=trials.csv {shlex.join(lists)} starts={cfg.starts}"
    call = (
        f"v2w_gym.evaluation.trials.run_trials(TrialsConfig(output='trials.csv', tasks={tasks}, "
        f"starts={cfg.starts}), policies=[...])"
    )
    yield (
        f"To compare every policy, record trials on the {comparison.reference} with "
        f"`{command if as_words else call}` and rank again with trials=trials.csv. Trials on a "
        "robot of your own go into such a table: policy, task, start, start_seed, success."
    )
