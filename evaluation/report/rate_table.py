"""Write the success rates of a comparison as lines of text."""

from v2w_gym.evaluation.compare.comparison import Comparison
from v2w_gym.evaluation.compare.rates import Cell, Rate
from v2w_gym.evaluation.compare.verdict import NO_TRIALS, NO_VERDICT, percent


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
