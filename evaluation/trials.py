"""Try policies on the stand-in robot (a simulated robot), and read tables of trials."""

import csv
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit
from tqdm import tqdm

from v2w_gym.configs.evaluate import TrialsConfig
from v2w_gym.configs.names import check_name
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.tasks import TASKS
from v2w_gym.configs.text import printable, to_path
from v2w_gym.evaluation.closed_loop import policy_seed, run_attempts
from v2w_gym.evaluation.records.rows import video_name
from v2w_gym.policies.base import Policy
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.standin.env import StandinEnv
from v2w_gym.starts import Start, bundled_starts
from v2w_gym.world_models.downloads import check_not_lfs_pointer
from v2w_gym.world_models.files import append_line, cut_torn_line, write_text
from v2w_gym.world_models.run_folder import hold

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "reference" / "standin_trials.csv"
COLUMNS = ("policy", "task", "start", "start_seed", "success", "steps", "policy_fingerprint")
NEEDED = COLUMNS[:5]
TEXTS = {"policy": str, "task": str, "policy_fingerprint": str}
NO_VALUE = ["", "NA", "nan", "NaN", "null", "None"]
MISSING = dict.fromkeys(("start", "start_seed", "success", "steps"), NO_VALUE)
"""What stands for no value, and in which columns; in the others, pandas must take it for text."""
COMMENT = re.compile(r"^#.*\n?", re.MULTILINE)
TRIALS = 0x747269616C
"""Seed of the policies' random choices in trials; rollouts use small ones and share no luck."""


def run_trials(
    cfg: TrialsConfig, *, policies: Sequence[Policy | RobotPolicy] | None = None
) -> Path:
    """Try every policy on every task from every start, once; keep the trials that are done.

    Args:
        cfg: What to try, and where the table goes.
        policies: Policies to use instead of `cfg.policies`; each as it is, or as a `RobotPolicy`
            with settings of its own.

    Returns:
        The table's path.

    Raises:
        BlockingIOError: Another process fills the table.
        ModuleNotFoundError: The `standin` extra is not installed.
        OSError: The table cannot be written.
        ValueError: A setting out of range, or a table of policies with other weights.
    """
    with make_policies(cfg.policies if policies is None else policies, STANDIN_SAWYER) as drivers:
        check_distinct(drivers)
        if policies is not None:
            cfg = replace(cfg, policies=[driver.meta.name for driver in drivers])
        table = Path(cfg.output)
        with hold(table.with_name(f"{table.name}.lock")):
            return _try(cfg, drivers)


def _try(cfg: TrialsConfig, drivers: Sequence[RobotPolicy]) -> Path:
    starts = {task: choose_starts(task, cfg.starts) for task in cfg.tasks}
    robots = {task: _robot(task) for task in cfg.tasks}
    table = Path(cfg.output)
    done = _reopen(table, cfg, drivers)
    plan = [
        (driver, task, start)
        for driver, task, start in product(drivers, cfg.tasks, range(cfg.starts))
        if (driver.meta.name, task, start) not in done
    ]
    total = len(drivers) * len(cfg.tasks) * cfg.starts
    for driver, task, start in tqdm(plan, initial=total - len(plan), total=total, unit="trial"):
        seed = starts[task][start].seed
        [trial] = run_attempts(
            robots[task],
            driver,
            env_seeds=[seed],
            policy_seeds=[policy_seed(seed, TRIALS)],
            options={},
        )
        name, weights = driver.meta.name, driver.fingerprint
        for event, times in trial.events.items():
            log.warning("%s, %s from start %d: %s, %d times", name, task, start, event, times)
        append_line(table, _csv([name, task, start, seed, trial.success, trial.steps, weights]))
    for robot in robots.values():
        robot.close()
    return table


def load_trials(path: str | Path | None = None) -> pd.DataFrame:
    """Read a table of trials on a robot; None is the bundled one, or no trials if it is not there.

    A table has the columns policy, task, start, start_seed and success (true, false or empty), one
    row per trial, and may have more; lines that begin with # are comments. Names are text, whatever
    they look like: a policy may be called null, 010 or a#b.

    Raises:
        FileNotFoundError: No such table.
        ValueError: Not such a table.
    """
    file = to_path(path) if path else BUNDLED
    if not path and not file.exists():
        return pd.DataFrame(columns=list(NEEDED))
    if not file.is_file():
        raise FileNotFoundError(
            f"expected a table of trials at {file}, found none; record one with `v2w trials`"
        )
    check_not_lfs_pointer(file)
    try:
        rows = COMMENT.sub("", file.read_text(encoding="utf-8-sig"))
        table = pd.read_csv(
            io.StringIO(rows), dtype=TEXTS, keep_default_na=False, na_values=MISSING
        )
    except ValueError as error:
        raise ValueError(f"expected a table of trials at {file}, found: {error}") from error
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise ValueError(
            f"expected columns {list(NEEDED)} in {file}, found {list(table)}; add {missing}"
        )
    _check_trials(table, file)
    return table


def _check_trials(table: pd.DataFrame, file: Path) -> None:
    """Refuse names that cannot be shown, starts that are missing, and outcomes that are none."""
    for column in ("policy", "task"):
        for name in table[column].unique():
            try:
                check_name(name)
            except ValueError as error:
                raise ValueError(f"column {column} of {file}: {error}") from error
    if table["start"].isna().any():
        raise ValueError(f"expected a start in every row of {file}, found rows without one")
    odd = [value for value in table["success"].dropna().unique() if value not in (0, 1)]
    odd.sort(key=lambda value: str(value).lower() in ("true", "false"))  # beside others, text too
    if odd:
        raise ValueError(f"expected success in {file} as true, false or empty, found {odd[0]!r}")


def check_fingerprints(trials: pd.DataFrame, expected: Mapping[str, str]) -> None:
    """Check that trials were made with the weights and driver settings that are rolled out.

    Args:
        trials: What `load_trials` returned.
        expected: Fingerprint by policy; see `RobotPolicy.fingerprint`.

    Raises:
        ValueError: A policy was tried with others.
    """
    if "policy_fingerprint" not in trials:
        return
    for name, fingerprint in expected.items():
        found = set(trials.loc[trials["policy"] == name, "policy_fingerprint"])
        if found - {fingerprint}:
            raise ValueError(
                f"expected trials of {name} with weights and driver settings of fingerprint "
                f"{fingerprint or 'none'}, found trials with {sorted(found)}; record them again "
                "with `v2w trials`, or give the policy a `name:` of its own in a policy file, "
                "which is then simulated without trials"
            )


def choose_starts(task: str, count: int) -> list[Start]:
    """Return the first `count` bundled starts of a task.

    Raises:
        ValueError: Unknown task, or more starts than there are.
    """
    starts = bundled_starts(task)
    if not 1 <= count <= len(starts):
        raise ValueError(f"expected starts from 1 to {len(starts)} for {task}, found {count}")
    return starts[:count]


def check_distinct(drivers: Sequence[RobotPolicy]) -> None:
    """Check that there are policies and that their names differ, also as names of folders.

    Raises:
        ValueError: No policy, two of one name (large and small letters are one to some disks), or a
            name that no table can show.
    """
    names = [driver.meta.name for driver in drivers]
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise ValueError(f"{error}; give the policy a `name:` in a policy file") from error
    folders = {video_name(name, "", 0, 0).lower() for name in names}
    if not names or len(folders) < len(names):
        raise ValueError(
            f"expected policies with different names, in more than large and small letters, found "
            f"{names}; rename a file, or give one a `name:` in a policy file"
        )


def _robot(task: str) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv(
        [lambda: TimeLimit(StandinEnv(task), TASKS[task].horizon)],
        autoreset_mode=AutoresetMode.DISABLED,
    )


def _reopen(
    table: Path, cfg: TrialsConfig, drivers: Sequence[RobotPolicy]
) -> set[tuple[str, str, int]]:
    """Return which trials the table holds already; begin the table if there is none."""
    if not table.exists() or not table.stat().st_size:  # as a power cut leaves it
        table.parent.mkdir(parents=True, exist_ok=True)
        write_text(table, f"# command: {printable(_command(cfg))}\n{_csv(COLUMNS)}\n")
    table.open("a").close()  # a table that cannot be written is found out before the first trial
    cut_torn_line(table)
    trials = load_trials(table)
    weights = {driver.meta.name: driver.fingerprint for driver in drivers}
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


def _csv(values: Sequence[object]) -> str:
    """Return one line of a table; quotes keep a name that begins with # from being a comment."""
    line = io.StringIO()
    if str(values[0]).startswith("#"):
        csv.writer(line, lineterminator="", quoting=csv.QUOTE_NONNUMERIC).writerow(values)
    else:
        csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
