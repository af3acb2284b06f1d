"""Compare rollouts in a world model with trials: agreement, and significant differences."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from v2w_gym.evaluation.compare import statistics as st
from v2w_gym.evaluation.compare.rates import Cell, Rate, Starts, list_notes, make_cells, start_means

STANDIN = "stand-in robot"
MEAN_OF_TASKS = "mean of all tasks"
DRAWS = 4000
SIGNIFICANCE = 0.05

SUMMARIES: Mapping[str, st.Summary] = {
    "pearson": st.pearson,
    "spearman": st.spearman,
    "kendall": st.kendall,
    "mmrv": st.mmrv,
    "mmrv_ties": st.mmrv_ties,
    "mean_bias": st.mean_bias,
    "mean_absolute_error": st.mean_absolute_error,
    "slope": st.slope,
    "top1": st.top1,
    "regret": st.regret,
}


@dataclass(frozen=True)
class Agreement:
    """Agreement of simulated and real success rates on one task.

    Attributes:
        task: Name of the task, or `MEAN_OF_TASKS`.
        policies: The K policies compared, weakest in reality first.
        real: Their K success rates in reality.
        simulated: Their K success rates in the world model.
        summaries: Each of `SUMMARIES` with an interval for the noise of both sides.
        top1_probability: Posterior probability that simulation picks the policy best in reality.
        pearson_without_one: Range of Pearson's r when each policy in turn is left out.
        pearson_other_policies: Fisher's interval of r, which treats the policies as a sample.
    """

    task: str
    policies: tuple[str, ...]
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    summaries: Mapping[str, st.Estimate]
    top1_probability: float
    pearson_without_one: tuple[float, float]
    pearson_other_policies: tuple[float, float]


Separation = Literal["same order", "opposite order", "only simulated", "only real", "neither"]


@dataclass(frozen=True)
class Pair:
    """Tests of the difference between two policies on one task.

    Attributes:
        task: Name of the task.
        first: A policy.
        second: Another policy, at least as good in reality over all tasks.
        gap_simulated: Simulated rate of `second` minus that of `first`, over their common starts.
        gap_real: The same in reality.
        p_simulated: Sign test over common starts, Holm-adjusted for all pairs of this task.
        p_real: The same in reality.
    """

    task: str
    first: str
    second: str
    gap_simulated: float
    gap_real: float
    p_simulated: float
    p_real: float

    @property
    def separation(self) -> Separation:
        """The side on which the difference is significant; with both sides, whether they agree."""
        simulated, real = self.p_simulated < SIGNIFICANCE, self.p_real < SIGNIFICANCE
        if simulated and real:
            return "same order" if self.gap_simulated * self.gap_real > 0 else "opposite order"
        if simulated:
            return "only simulated"
        return "only real" if real else "neither"


@dataclass(frozen=True)
class Comparison:
    """All numbers of a report.

    A policy without trials has cells with its simulated rates, and is in no other statistic.

    Attributes:
        tasks: Tasks compared.
        policies: Policies compared, weakest in reality first.
        cells: One per policy and task that was simulated, compared or not.
        agreements: One per task, then one for the mean of the tasks if there are several.
        pairs: Every two policies of every task.
        notes: Sentences on what was left out or does not match.
        reference: Name of the side called reality.
    """

    tasks: tuple[str, ...]
    policies: tuple[str, ...]
    cells: tuple[Cell, ...]
    agreements: tuple[Agreement, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    reference: str

    @property
    def compared(self) -> tuple[Cell, ...]:
        """The cells with a rate on both sides, which every statistic uses."""
        return tuple(cell for cell in self.cells if cell.compared)

    @property
    def simulated_tasks(self) -> tuple[str, ...]:
        """Tasks with rollouts, compared or not."""
        return tuple(dict.fromkeys(cell.task for cell in self.cells))

    @property
    def simulated_policies(self) -> tuple[str, ...]:
        """Policies with rollouts: first those without trials, weakest in simulation first."""
        others = (cell for cell in self.cells if cell.policy not in self.policies)
        return (*_weakest_first(others, "simulated"), *self.policies)

    def cell(self, task: str, policy: str) -> Cell | None:
        """Return the cell of a task and policy, or None if it was not simulated."""
        return next((c for c in self.cells if (c.task, c.policy) == (task, policy)), None)


def compare(simulated: pd.DataFrame, real: pd.DataFrame, *, reference: str = STANDIN) -> Comparison:
    """Compare rollouts in a world model with trials in reality.

    A policy that lacks one side on a task is not compared there. `notes` names it, and its
    simulated rate is kept. Abstentions of the judge are counted, and are in no rate.

    Args:
        simulated: One row per rollout: policy, task, start, start_seed, seed, success (None if the
            judge abstained).
        real: One row per trial: policy, task, start, start_seed, success.
        reference: Name of the robot of the trials.

    Raises:
        ValueError: A column is missing, a rollout is repeated, judges or world models are mixed, or
            a start is a different scene on the two sides.
    """
    cells = make_cells(simulated, real)
    compared = tuple(cell for cell in cells if cell.compared)
    starts_sim, starts_real = start_means(simulated), start_means(real)
    tasks = tuple(dict.fromkeys(cell.task for cell in compared))
    policies = _weakest_first(compared, "real")
    mean, left_out = _mean_of_tasks(compared, tasks, policies)
    return Comparison(
        tasks=tasks,
        policies=policies,
        cells=cells,
        agreements=(*(_agreement(task, compared, policies) for task in tasks), *mean),
        pairs=tuple(p for task in tasks for p in _pairs(task, policies, starts_sim, starts_real)),
        notes=(*list_notes(simulated, real, cells), *left_out),
        reference=reference,
    )


def _weakest_first(cells: Iterable[Cell], side: Literal["simulated", "real"]) -> tuple[str, ...]:
    """Order policies by their mean rate on one side; a task without a rate counts as 0."""
    rates: dict[str, list[float]] = {}
    for cell in cells:
        rate: Rate = getattr(cell, side)
        rates.setdefault(cell.policy, []).append(rate.value if rate.n else 0.0)
    return tuple(sorted(rates, key=lambda policy: (np.mean(rates[policy]), policy)))


def _agreement(task: str, cells: tuple[Cell, ...], policies: tuple[str, ...]) -> Agreement:
    mine = sorted((c for c in cells if c.task == task), key=lambda c: policies.index(c.policy))
    return _summarise(task, tuple(c.policy for c in mine), [mine])


def _mean_of_tasks(
    cells: tuple[Cell, ...], tasks: tuple[str, ...], policies: tuple[str, ...]
) -> tuple[tuple[Agreement, ...], tuple[str, ...]]:
    """Compare each policy's mean over tasks; notes name the policies that lack a task."""
    if len(tasks) < 2:
        return (), ()
    table = {(c.task, c.policy): c for c in cells}
    full = tuple(p for p in policies if all((task, p) in table for task in tasks))
    notes = tuple(
        f"{policy} is not in the {MEAN_OF_TASKS}: it lacks a task."
        for policy in policies
        if policy not in full
    )
    if not full:
        return (), notes
    by_task = [[table[task, policy] for policy in full] for task in tasks]
    return (_summarise(MEAN_OF_TASKS, full, by_task),), notes


def _summarise(task: str, policies: tuple[str, ...], by_task: list[list[Cell]]) -> Agreement:
    """Summarise K policies from a table of cells, (tasks, K); rates are averaged over tasks."""
    # Each summary's value comes from the observed rates. Its interval comes from draws of the true
    # rates on both sides from their posterior. A fixed seed makes the intervals reproducible.
    generator = np.random.default_rng(0)
    observed, draws = [], []
    for side in ("real", "simulated"):
        rates = [[getattr(cell, side) for cell in row] for row in by_task]
        successes = [[rate.successes for rate in row] for row in rates]
        n = [[rate.n for rate in row] for row in rates]
        observed.append(np.mean(np.divide(successes, n), axis=0))
        draws.append(st.sample_rates(successes, n, DRAWS, generator).mean(1))
    (real, sim), (real_draws, sim_draws) = observed, draws
    r = float(st.pearson(real=real, sim=sim))
    # The mean of top-1 over draws is the probability that simulation picks the best policy.
    return Agreement(
        task=task,
        policies=policies,
        real=tuple(map(float, real)),
        simulated=tuple(map(float, sim)),
        summaries={
            name: st.estimate(float(of(real=real, sim=sim)), of(real=real_draws, sim=sim_draws))
            for name, of in SUMMARIES.items()
        },
        top1_probability=float(st.top1(real=real_draws, sim=sim_draws).mean()),
        pearson_without_one=st.leave_one_out(st.pearson, real=real, sim=sim),
        pearson_other_policies=st.fisher_interval(r, len(policies)),
    )


def _pairs(task: str, policies: tuple[str, ...], simulated: Starts, real: Starts) -> list[Pair]:
    """Test every two policies of a task on each side, over their common starts."""
    mine = [p for p in policies if (task, p) in simulated and (task, p) in real]
    names = list(itertools.combinations(mine, 2))
    sides = []
    for starts in (simulated, real):
        # Gap per start in [-1, 1], second minus first; starts of only one policy are dropped.
        gaps = [(starts[task, b] - starts[task, a]).dropna() for a, b in names]
        p_values = st.holm([st.sign_test(int((g > 0).sum()), int((g < 0).sum())) for g in gaps])
        sides.append([(float(g.mean()), p) for g, p in zip(gaps, p_values, strict=True)])
    return [
        Pair(task, a, b, gap_simulated, gap_real, p_simulated, p_real)
        for (a, b), (gap_simulated, p_simulated), (gap_real, p_real) in zip(
            names, *sides, strict=True
        )
    ]
