"""Success rates per policy and task, in simulation and in reality.

The unit is the start. Attempts from one start with different seeds are averaged first, and every
interval counts starts instead of attempts. Repeating a start does not enlarge the sample of starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from v2w_gym.configs.names import hint
from v2w_gym.evaluation.compare import statistics as st

Starts = Mapping[tuple[str, str], "pd.Series[float]"]
"""Share of successes per start, for each (task, policy)."""


@dataclass(frozen=True)
class Rate:
    """One success rate.

    Attributes:
        successes: Sum over starts of the share of successes from that start.
        n: Starts with at least one judged attempt.
        attempts: Judged attempts.
        abstained: Attempts without a verdict of the judge; they are in no other number.
    """

    successes: float
    n: int
    attempts: int
    abstained: int

    @property
    def value(self) -> float:
        """The rate in [0, 1]; NaN without a judged attempt."""
        return self.successes / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval over starts."""
        return st.wilson(self.successes, self.n)


@dataclass(frozen=True)
class Paired:
    """The same starts attempted by one policy in simulation and in reality.

    Attributes:
        n: Common starts.
        both: Starts solved on both sides. Here and below, a start with several attempts counts with
            its share of successes.
        only_simulated: Starts solved in simulation only.
        only_real: Starts solved in reality only.
        phi: Correlation of the outcomes over starts; NaN if one side has the same outcome always.
        p_value: Exact McNemar test (a sign test over starts) of equal success on both sides.
    """

    n: int
    both: float
    only_simulated: float
    only_real: float
    phi: float
    p_value: float

    @property
    def agreement(self) -> float:
        """Share of starts with the same outcome; NaN without common starts."""
        return 1 - (self.only_simulated + self.only_real) / self.n if self.n else float("nan")

    @property
    def agreement_by_chance(self) -> float:
        """Expected agreement of independent outcomes with these success rates p and q.

        P(same outcome) = p q + (1 - p) (1 - q)
        """
        if not self.n:
            return float("nan")
        sim = (self.both + self.only_simulated) / self.n
        real = (self.both + self.only_real) / self.n
        return sim * real + (1 - sim) * (1 - real)


@dataclass(frozen=True)
class Cell:
    """The results of one policy on one task, in simulation and in reality.

    Attributes:
        task: Name of the task.
        policy: Name of the policy.
        simulated: Rate in the world model; `n` is 0 if the judge abstained on every rollout.
        real: Rate on the robot; without trials, `n` is 0 and `value` NaN.
        paired: Comparison over the common starts.
    """

    task: str
    policy: str
    simulated: Rate
    real: Rate
    paired: Paired

    @property
    def compared(self) -> bool:
        """Whether there is a rate on both sides."""
        return bool(self.simulated.n and self.real.n)


def make_cells(simulated: pd.DataFrame, real: pd.DataFrame) -> tuple[Cell, ...]:
    """Rate each policy on each task that was simulated; arguments and errors as for `compare`."""
    check_tables(simulated, real)
    starts = start_means(simulated), start_means(real)
    nothing = pd.Series(dtype=float)
    cells = []
    for key in sorted(set(zip(simulated["task"], simulated["policy"], strict=True))):
        sim, ref = (side.get(key, nothing) for side in starts)
        cells.append(
            Cell(
                *key,
                simulated=_rate(simulated, key, sim),
                real=_rate(real, key, ref),
                paired=_paired(sim, ref),
            )
        )
    return tuple(cells)


def check_tables(simulated: pd.DataFrame, real: pd.DataFrame) -> None:
    """Check that rollouts, or a plan of rollouts without outcomes, can be compared with trials.

    Raises:
        ValueError: As for `compare`.
    """
    _check_columns(simulated, "simulated rollouts", ("seed",))
    _check_columns(real, "real trials", ())
    _check_one_source(simulated)
    _check_same_starts(simulated, real)


def _check_columns(frame: pd.DataFrame, what: str, more: tuple[str, ...]) -> None:
    expected = {"policy", "task", "start", "start_seed", "success", *more}
    if missing := expected - set(frame.columns):
        raise ValueError(
            f"expected the {what} to have columns {sorted(expected)}, found {list(frame.columns)}; "
            f"add {sorted(missing)}"
        )
    odd = [value for value in frame["success"].dropna().unique() if value not in (0, 1)]
    if odd:
        raise ValueError(
            f"expected success of the {what} to be true, false or empty, found {odd[0]!r}"
        )


def _check_one_source(simulated: pd.DataFrame) -> None:
    """Check that no rollout is repeated, and that judges, models and policies are not mixed."""
    twice = simulated.duplicated(["policy", "task", "start", "seed"])
    if twice.any():
        row = simulated.loc[twice, ["policy", "task", "start", "seed"]].iloc[0].to_dict()
        raise ValueError(
            f"expected one row per policy, task, start and seed, found {twice.sum()} "
            f"repeated, such as {row}; remove them or give every rollout of a start its own seed"
        )
    for column, within in (
        ("model_fingerprint", None),
        ("judge", "task"),
        ("policy_fingerprint", "policy"),
    ):
        if column not in simulated:
            continue
        groups = [group for _, group in simulated.groupby(within)] if within else [simulated]
        for found in (sorted(map(str, group[column].unique())) for group in groups):
            if len(found) > 1:
                raise ValueError(
                    f"expected one {column}{f' per {within}' if within else ''}, found {found}; "
                    "compare one run at a time"
                )


def _check_same_starts(simulated: pd.DataFrame, real: pd.DataFrame) -> None:
    """Check that each start has the same seed, and so shows the same scene, on both sides."""
    seeds = [
        frame.assign(start=frame["start"].astype(str))
        .groupby(["task", "start"])["start_seed"]
        .first()
        for frame in (simulated, real)
    ]
    both = pd.concat(seeds, axis=1, join="inner", keys=["simulated", "real"]).dropna()
    wrong = both[both["simulated"] != both["real"]]
    if len(wrong):
        (task, start), seed = wrong.index[0], wrong.iloc[0]
        raise ValueError(
            f"expected start {start} of {task} to be the same scene on both sides, found "
            f"start_seed {seed['simulated']} in simulation and {seed['real']} in reality; "
            "record the real trials again from the starts that the rollouts use"
        )


def start_means(frame: pd.DataFrame) -> Starts:
    """Average the judged attempts of each start, for every task and policy with such attempts."""
    judged = frame.assign(
        success=frame["success"].to_numpy(dtype=float, na_value=np.nan),
        start=frame["start"].astype(str),
    ).dropna(subset="success")
    return {
        (str(task), str(policy)): group.groupby("start")["success"].mean()
        for (task, policy), group in judged.groupby(["task", "policy"])
    }


def _rate(frame: pd.DataFrame, key: tuple[str, str], per_start: "pd.Series[float]") -> Rate:
    success = frame.loc[(frame["task"] == key[0]) & (frame["policy"] == key[1]), "success"]
    return Rate(
        successes=float(per_start.sum()),
        n=len(per_start),
        attempts=int(success.notna().sum()),
        abstained=int(success.isna().sum()),
    )


def _paired(simulated: "pd.Series[float]", real: "pd.Series[float]") -> Paired:
    # McNemar's table over common starts: success on both sides, on one side, on neither. A start
    # with several seeds counts with its share of successes.
    common = simulated.index.intersection(real.index)
    sim, ref = simulated[common].to_numpy(), real[common].to_numpy()
    return Paired(
        n=len(common),
        both=float((sim * ref).sum()),
        only_simulated=float((sim * (1 - ref)).sum()),
        only_real=float(((1 - sim) * ref).sum()),
        phi=float(st.pearson(real=ref, sim=sim)) if len(common) else float("nan"),
        p_value=st.sign_test(int((sim > ref).sum()), int((sim < ref).sum())),
    )


def list_notes(simulated: pd.DataFrame, real: pd.DataFrame, cells: tuple[Cell, ...]) -> list[str]:
    """Return notes on what is not compared, and on starts or policy weights that do not match."""
    notes = _not_compared(real, cells)
    shown = {(cell.task, cell.policy) for cell in cells}
    tried = set(zip(real["task"], real["policy"], strict=True))
    notes += [
        f"{policy} on {task} is left out: there are no rollouts of it."
        for task, policy in sorted(tried - shown)
    ]
    for task in sorted({cell.task for cell in cells if cell.compared}):
        found = [set(f.loc[f["task"] == task, "start"].astype(str)) for f in (simulated, real)]
        if found[0] != found[1]:
            notes.append(
                f"{task}: rollouts began at {len(found[0])} starts and trials at {len(found[1])}. "
                f"{len(found[0] & found[1])} starts are the same, and only those are paired."
            )
    return notes + _other_weights(simulated, real)


def _not_compared(real: pd.DataFrame, cells: tuple[Cell, ...]) -> list[str]:
    """Return notes on policies that lack a rate on one side, one per policy and reason."""
    tasks: dict[tuple[str, str], list[str]] = {}
    tried = sorted(set(real["policy"]))
    for cell in cells:
        if not cell.simulated.n:
            why = "left out: the judge abstained on every rollout."
        elif not cell.real.n:
            near = "" if cell.policy in tried else hint(cell.policy, tried)
            why = f"not compared: there are no trials of it{near or '.'}"
        else:
            continue
        tasks.setdefault((cell.policy, why), []).append(cell.task)
    return [f"{policy} on {' and '.join(found)} is {why}" for (policy, why), found in tasks.items()]


def _other_weights(simulated: pd.DataFrame, real: pd.DataFrame) -> list[str]:
    """Return notes on policies whose trials were made with other weights or settings."""
    column = "policy_fingerprint"
    if column not in simulated or column not in real:
        return []
    found = [frame.groupby("policy")[column].agg(set) for frame in (simulated, real)]
    both = pd.concat(found, axis=1, join="inner", keys=["simulated", "real"])
    return [
        f"{policy}: its real trials were made with other weights or driver settings (fingerprint "
        f"{', '.join(sorted(map(str, row['real'])))}) than its rollouts "
        f"({', '.join(sorted(map(str, row['simulated'])))})."
        for policy, row in both.iterrows()
        if row["simulated"] != row["real"]
    ]
