"""Run policies on the stand-in robot (a simulated robot); each trial gives one row of a table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit
from tqdm import tqdm

from v2w_gym.configs.evaluate import TrialsConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.tasks import TASKS
from v2w_gym.configs.text import printable
from v2w_gym.evaluation.closed_loop import (
    check_distinct,
    policy_seed,
    run_attempts,
    start_seeds,
)
from v2w_gym.evaluation.records.trials import COLUMNS, csv_line, load_trials
from v2w_gym.policies.base import Policy
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.standin.env import StandinEnv
from v2w_gym.world_models.files import append_line, cut_torn_line, write_text
from v2w_gym.world_models.run_folder import hold

log = logging.getLogger(__name__)

TRIALS = 0x747269616C
"""Seed of the policies' random choices in trials, which differs from the seeds of rollouts."""


def run_trials(
    cfg: TrialsConfig, *, policies: Sequence[Policy | RobotPolicy] | None = None
) -> Path:
    """Run every policy once on every task from every start; keep finished trials.

    Args:
        cfg: Settings of the trials.
        policies: Policies to use instead of `cfg.policies`. Wrap one in a `RobotPolicy` to give it
            settings of its own.

    Returns:
        The table's path.

    Raises:
        BlockingIOError: Another process writes the table.
        ModuleNotFoundError: The `standin` extra is not installed.
        OSError: The table cannot be written.
        ValueError: A setting is out of range, or the table holds trials of other weights.
    """
    chosen = cfg.policies if policies is None else policies
    with make_policies(chosen, STANDIN_SAWYER) as acting:
        check_distinct(acting)
        if policies is not None:
            cfg = replace(cfg, policies=[policy.meta.name for policy in acting])
        table = Path(cfg.output)
        with hold(table.with_name(f"{table.name}.lock")):
            _try(table, cfg, acting)
    return table


def _try(table: Path, cfg: TrialsConfig, policies: Sequence[RobotPolicy]) -> None:
    seeds = {task: start_seeds(task, cfg.starts) for task in cfg.tasks}
    robots = {task: _robot(task) for task in cfg.tasks}
    done = _reopen(table, cfg, policies)
    plan = [
        (policy, task, start)
        for policy, task, start in product(policies, cfg.tasks, range(cfg.starts))
        if (policy.meta.name, task, start) not in done
    ]
    total = len(policies) * len(cfg.tasks) * cfg.starts
    for policy, task, start in tqdm(plan, initial=total - len(plan), total=total, unit="trial"):
        seed = seeds[task][start]
        [trial] = run_attempts(
            robots[task],
            policy,
            env_seeds=[seed],
            policy_seeds=[policy_seed(seed, TRIALS)],
            options={},
        )
        name, weights = policy.meta.name, policy.fingerprint
        for event, times in trial.events.items():
            log.warning("%s, %s from start %d: %s, %d times", name, task, start, event, times)
        row = [name, task, start, seed, trial.success, trial.steps, weights]
        append_line(table, csv_line(row))
    for robot in robots.values():
        robot.close()


def _robot(task: str) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv(
        [lambda: TimeLimit(StandinEnv(task), TASKS[task].horizon)],
        autoreset_mode=AutoresetMode.DISABLED,
    )


def _reopen(
    table: Path, cfg: TrialsConfig, policies: Sequence[RobotPolicy]
) -> set[tuple[str, str, int]]:
    """Return the finished trials of the table; begin the table if there is none."""
    if not table.exists() or not table.stat().st_size:  # a power cut can leave an empty file
        table.parent.mkdir(parents=True, exist_ok=True)
        write_text(table, f"# command: {printable(_command(cfg))}\n{csv_line(COLUMNS)}\n")
    table.open("a").close()  # fail before the first trial if the table cannot be written
    cut_torn_line(table)
    trials = load_trials(table)
    weights = {policy.meta.name: policy.fingerprint for policy in policies}
    for name, found in zip(trials["policy"], trials["policy_fingerprint"], strict=True):
        if weights.get(name, found) != found:
            raise ValueError(
                f"{table} holds trials of {name} with other weights or driver settings: expected "
                f"{weights[name] or 'none'}, found {found or 'none'}; choose another table with "
                "output=..., or delete this one"
            )
    return set(zip(trials["policy"], trials["task"], trials["start"].astype(int), strict=True))


def _command(cfg: TrialsConfig) -> str:
    lists = f"'policies=[{','.join(cfg.policies)}]' 'tasks=[{','.join(cfg.tasks)}]'"
    return f"v2w trials output={cfg.output} {lists} starts={cfg.starts}"
