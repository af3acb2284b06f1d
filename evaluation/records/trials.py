"""Tables of trials, the attempts of policies on a robot: read, checked and written by line."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from v2w_gym.configs.names import check_name
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.downloads import check_not_lfs_pointer

BUNDLED = Path(__file__).parents[1] / "reference" / "standin_trials.csv"
COLUMNS = ("policy", "task", "start", "start_seed", "success", "steps", "policy_fingerprint")
NEEDED = COLUMNS[:5]
TEXTS = {"policy": str, "task": str, "policy_fingerprint": str}
NO_VALUE = ["", "NA", "nan", "NaN", "null", "None"]
MISSING = dict.fromkeys(("start", "start_seed", "success", "steps"), NO_VALUE)
"""Columns that may lack a value, and the words for that; elsewhere these words are text."""
COMMENT = re.compile(r"^#.*\n?", re.MULTILINE)


def load_trials(path: str | Path | None = None) -> pd.DataFrame:
    """Read a table of trials on a robot; by default the bundled one, or no trials without it.

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
    """Refuse names that cannot be shown, missing starts and unknown outcomes."""
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
    """Check that the trials used the same weights and driver settings as the rollouts.

    Args:
        trials: What `load_trials` returned.
        expected: Fingerprint by policy; see `RobotPolicy.fingerprint`.

    Raises:
        ValueError: A policy's trials used others.
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


def csv_line(values: Sequence[object]) -> str:
    """Return one line of a table; quotes keep a name that begins with # from being a comment."""
    line = io.StringIO()
    if str(values[0]).startswith("#"):
        csv.writer(line, lineterminator="", quoting=csv.QUOTE_NONNUMERIC).writerow(values)
    else:
        csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()
