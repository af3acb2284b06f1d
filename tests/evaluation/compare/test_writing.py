"""The printed table has a line per policy and task, with or without trials."""

import pandas as pd

from v2w_gym.evaluation.compare.comparison import compare
from v2w_gym.evaluation.compare.writing import to_table


def attempts(**outcomes: str) -> pd.DataFrame:
    """Spell outcomes per start: 1 success, 0 failure, ? abstained."""
    meaning = {"1": True, "0": False, "?": None}
    rows = [
        ("close_drawer", policy, start, start, 0, meaning[letter])
        for policy, letters in outcomes.items()
        for start, letter in enumerate(letters)
    ]
    return pd.DataFrame(
        rows, columns=["task", "policy", "start", "start_seed", "seed", "success"]
    ).astype({"success": object})


def test_rates_stand_beside_each_other_and_gaps_are_named() -> None:
    rollouts = attempts(tried="1100", mine="111?", dark="????")
    lines = to_table(compare(rollouts, attempts(tried="1000"))).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["task"] + ["close_drawer"] * 3
    columns = [[word for word in line.split("  ") if word] for line in lines]
    assert [word.strip() for word in columns[0]] == [
        "task",
        "policy",
        "world model",
        "stand-in robot",
        "judge abstained",
    ]
    rows = {row[1].strip(): [word.strip() for word in row[2:]] for row in columns[1:]}
    assert list(rows) == ["tried", "mine", "dark"]  # compared ones first
    assert rows["tried"] == ["50 % [15 %, 85 %], n = 4", "25 % [5 %, 70 %], n = 4", "0 of 4"]
    assert rows["mine"] == ["100 % [44 %, 100 %], n = 3", "no trials", "1 of 4"]
    assert rows["dark"] == ["no verdict", "no trials", "4 of 4"]
