"""Format numbers and success rates for the terminal and the report."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from v2w_gym.evaluation.compare.comparison import Comparison
from v2w_gym.evaluation.compare.rates import Cell, Rate
from v2w_gym.evaluation.compare.statistics import Estimate

NO_TRIALS, NO_VERDICT = "no trials", "no verdict"
"""Texts in place of a missing rate."""
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def percent(rate: float) -> str:
    """Write a rate in [0, 1] as a percentage."""
    return DASH if math.isnan(rate) else f"{100 * rate:.0f} %"


def points(difference: float) -> str:
    """Write a difference of two rates as signed percentage points."""
    if math.isnan(difference):
        return DASH
    rounded = round(100 * difference)
    return f"{rounded:+d}".replace("-", MINUS) if rounded else "0"


def decimal(number: float) -> str:
    """Write a correlation with two digits, three near 1, and 1 only for exactly 1."""
    if math.isnan(number):
        return "undefined"
    if 0.995 <= abs(number) < 1:
        return f"{math.copysign(min(abs(number), 0.999), number):.3f}".replace("-", MINUS)
    return f"{number:.2f}".replace("-", MINUS)


def with_interval(of: Estimate, write: Callable[[float], str] = decimal) -> str:
    """Write an estimate as "value [low, high]"."""
    return f"{write(of.value)} [{write(of.low)}, {write(of.high)}]" if of.defined else "undefined"


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as one table, for the terminal and for Markdown alike."""
    lines = [list(rows[0]), *([written(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([word.ljust(n) for word, n in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def written(value: object) -> str:
    """Write a value in a cell of a table: numbers with three digits, whole numbers in full."""
    if isinstance(value, Estimate):
        return with_interval(value, written)
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={entry}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(written, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def to_table(comparison: Comparison) -> str:
    """Return one line per policy and task: both rates with 95 % intervals over n starts."""
    order = comparison.simulated_policies[::-1]
    cells = sorted(comparison.cells, key=lambda cell: (cell.task, order.index(cell.policy)))
    head = ("task", "policy", "world model", comparison.reference, "judge abstained")
    rows = [head, *map(_row, cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(cell: Cell) -> tuple[str, ...]:
    attempts = cell.simulated.attempts + cell.simulated.abstained
    return (
        cell.task,
        cell.policy,
        _rate(cell.simulated, NO_VERDICT),
        _rate(cell.real, NO_TRIALS),
        f"{cell.simulated.abstained} of {attempts}",
    )


def _rate(rate: Rate, without: str) -> str:
    if not rate.n:
        return without
    low, high = map(percent, rate.interval)
    return f"{percent(rate.value)} [{low}, {high}], n = {rate.n}"
