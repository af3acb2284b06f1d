"""One table of success rates per policy and task, in simulation and in reality.

The unit is the start. Attempts from one start with different seeds are averaged first and every
interval counts starts, not attempts: repeating a start does not make the sample of starts larger.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from configs.lookup import hint
from evaluation import statistics as st

Starts = Mapping[tuple[str, str], "pd.Series[float]"]
"""Share of successes per start, for each (task, policy)."""


@dataclass(frozen=True)
class Rate:
    """One success rate.

    Attributes:
        successes: Sum over starts of the share of successes from that start.
        n: Starts with at least one judged attempt.
        attempts: Judged attempts.
        abstained: Attempts on which the judge gave no verdict; part of nothing else.
    """

    successes: float
    n: int
    attempts: int
    abstained: int

    @property
    def value(self) -> float:
        """The rate in [0, 1]; NaN if nothing was judged."""
        return self.successes / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval over starts."""
        return st.wilson(self.successes, self.n)


@dataclass(frozen=True)
class Paired:
    """The same starts attempted by one policy in simulation and in reality.

    Attributes:
        n: Starts in common.
        both: Starts solved on both sides; a start solved in part counts in part, here and below.
        only_simulated: Starts solved in simulation only.
        only_real: Starts solved in reality only.
        phi: Correlation of the outcomes over starts; NaN if one side always ends the same way.
        p_value: Exact McNemar test (a sign test over starts) that both sides succeed equally often.
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
        """The agreement of two unrelated coins with these two success rates."""
        if not self.n:
            return float("nan")
        sim = (self.both + self.only_simulated) / self.n
        real = (self.both + self.only_real) / self.n
        return sim * real + (1 - sim) * (1 - real)


@dataclass(frozen=True)
class Cell:
    """One policy on one task."""

    task: str
    policy: str
    simulated: Rate
    real: Rate
    paired: Paired


def make_cells(simulated: pd.DataFrame, real: pd.DataFrame) -> tuple[Cell, ...]:
    """Rate each policy on each task that both sides have; arguments and errors as for `compare`."""
    _check_columns(simulated, "simulated rollouts", ("seed",))
    _check_columns(real, "real trials", ())
    _check_one_source(simulated)
    _check_same_starts(simulated, real)
    starts = start_means(simulated), start_means(real)
    common = sorted(starts[0].keys() & starts[1].keys())
    if not common:
        raise _nothing_in_common(simulated, real)
    return tuple(
        Cell(
            *key,
            simulated=_rate(simulated, key, starts[0][key]),
            real=_rate(real, key, starts[1][key]),
            paired=_paired(starts[0][key], starts[1][key]),
        )
        for key in common
    )


def _check_columns(frame: pd.DataFrame, what: str, more: tuple[str, ...]) -> None:
    expected = {"policy", "task", "start", "start_seed", "success", *more}
    if missing := expected - set(frame.columns):
        raise ValueError(
            f"expected the {what} to have columns {sorted(expected)}, found {list(frame.columns)}; "
            f"add {sorted(missing)}"
        )
    values = frame["success"].to_numpy(dtype=float, na_value=np.nan)
    if not np.isin(values[~np.isnan(values)], (0, 1)).all():
        raise ValueError(
            f"expected success of the {what} to be true, false or empty, found {values}"
        )


def _check_one_source(simulated: pd.DataFrame) -> None:
    """Refuse a rollout that counts twice, and a mix of judges, models or policy versions."""
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
    """Refuse a start whose seed differs between the sides: its index means two different scenes."""
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
    """Average the judged attempts of each start, for every task and policy that has any."""
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
    """Say what was left out and why, and which starts or policy weights do not match."""
    common = {(cell.task, cell.policy) for cell in cells}
    sides = {
        "simulation": set(zip(simulated["task"], simulated["policy"], strict=True)),
        "reality": set(zip(real["task"], real["policy"], strict=True)),
    }
    notes = []
    for task, policy in sorted((sides["simulation"] | sides["reality"]) - common):
        lacking = [side for side, keys in sides.items() if (task, policy) not in keys]
        why = (
            f"nothing was recorded in {lacking[0]}"
            if lacking
            else "the judge abstained on every attempt"
        )
        notes.append(f"{policy} on {task} is left out: {why}.")
    for task in sorted({task for task, _ in common}):
        found = [set(f.loc[f["task"] == task, "start"].astype(str)) for f in (simulated, real)]
        if found[0] != found[1]:
            notes.append(
                f"{task}: {len(found[0])} starts in simulation and {len(found[1])} in reality, "
                f"{len(found[0] & found[1])} of them the same; only those are paired."
            )
    return notes + _other_weights(simulated, real)


def _other_weights(simulated: pd.DataFrame, real: pd.DataFrame) -> list[str]:
    """Name the policies whose real trials were made with other weights or settings."""
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


def _nothing_in_common(simulated: pd.DataFrame, real: pd.DataFrame) -> ValueError:
    found = [sorted(set(zip(f["policy"], f["task"], strict=True))) for f in (simulated, real)]
    names = [f"{policy} on {task}" for policy, task in found[1]]
    near = hint(f"{found[0][0][0]} on {found[0][0][1]}", names) if found[0] else ""
    return ValueError(
        f"expected a policy and a task that both sides have, found {found[0]} in simulation and "
        f"{found[1]} in reality{near}; record real trials of these policies first"
    )
