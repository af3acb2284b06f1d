"""Rank policies: run them in a world model, compare them with trials on the robot, and report."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.evaluation.closed_loop import start_seeds
from v2w_gym.evaluation.compare.comparison import Comparison, compare
from v2w_gym.evaluation.compare.rates import check_tables
from v2w_gym.evaluation.gate.committed import accuracy_on_generated, committed_gate, gate_notes
from v2w_gym.evaluation.records.trials import check_fingerprints, load_trials
from v2w_gym.evaluation.report.notes import event_notes, name_notes, trial_notes
from v2w_gym.evaluation.report.report import write_report
from v2w_gym.evaluation.rollout import check_rollouts, run_rollouts
from v2w_gym.judges.base import Judge
from v2w_gym.judges.loading import load_judge
from v2w_gym.policies.base import Policy
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.loading import load_with


def rank(
    cfg: RankConfig,
    *,
    model: WorldModel | None = None,
    policies: Sequence[Policy | RobotPolicy] | None = None,
    judge: Judge | None = None,
) -> Comparison:
    """Run the missing rollouts, compare all rollouts with trials, and write the report.

    A policy without trials on the robot is simulated too. Its rate is in the report, and the
    statistics use the other policies only.

    Args:
        cfg: Settings of the run.
        model: A world model to use instead of `cfg.checkpoint`, with its own sampler.
        policies: Policies to use instead of `cfg.policies`. Wrap one in a `RobotPolicy` to give it
            settings of its own.
        judge: A judge to use instead of `cfg.judge`.

    Raises:
        ConnectionError: A policy server cannot be reached.
        FileNotFoundError: No such checkpoint or table.
        OSError: The run folder cannot be written, or the disk is full.
        ValueError: A setting is unknown or out of range, the folder holds another run, the judge
            does not know the tasks or frames, or the trials are of other weights or starts.
    """
    model = model or load_with(cfg)
    judge = judge or load_judge(cfg.judge, model.robot)
    trials = load_trials(cfg.trials)
    with make_policies(cfg.policies if policies is None else policies, model.robot) as acting:
        check_rollouts(cfg, model, acting, judge)
        real = _relevant(trials, cfg, acting)
        rows = run_rollouts(cfg, model, acting, judge)
    gate = committed_gate(model.fingerprint, judge.name)
    comparison = compare(rows, real)
    notes = (
        *comparison.notes,
        *name_notes(comparison, trials),
        *trial_notes(cfg, comparison, as_words=policies is None),
        *gate_notes(gate, cfg.tasks),
        *event_notes(rows),
    )
    comparison = replace(comparison, notes=notes)
    generated = {"generated": accuracy_on_generated(gate)} if gate else {}
    judge_card = {**judge.card, **generated}
    write_report(Path(cfg.output), comparison, rows, real, judge_card, model.card)
    return comparison


def _relevant(
    trials: pd.DataFrame, cfg: RankConfig, policies: Sequence[RobotPolicy]
) -> pd.DataFrame:
    """Check the trials before any rollout, and return those of these policies and tasks."""
    names = [policy.meta.name for policy in policies]
    planned = pd.DataFrame(_planned(names, cfg))
    check_tables(planned.assign(success=None), trials)
    check_fingerprints(trials, {policy.meta.name: policy.fingerprint for policy in policies})
    return trials[trials["policy"].isin(names) & trials["task"].isin(cfg.tasks)]


def _planned(names: Sequence[str], cfg: RankConfig) -> Iterator[dict[str, str | int]]:
    """Yield one row per policy, task and start of the planned rollouts."""
    for name, task in product(names, cfg.tasks):
        for start, seed in enumerate(start_seeds(task, cfg.starts)):
            yield {"policy": name, "task": task, "start": start, "start_seed": seed, "seed": 0}
