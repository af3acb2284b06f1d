"""Plots of a comparison: success rates side by side, and simulated against real rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from v2w_gym.evaluation.compare.comparison import Agreement, Comparison
from v2w_gym.evaluation.compare.rates import Cell, Rate
from v2w_gym.evaluation.compare.statistics import CONFIDENCE
from v2w_gym.evaluation.compare.writing import NO_TRIALS, NO_VERDICT, percent, with_interval
from v2w_gym.world_models.files import replacing

REAL, SIMULATED, INK, FAINT = "#0072B2", "#E69F00", "#1F2933", "#C9D1D9"
POINTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Colours of Okabe and Ito, which colour-blind readers can distinguish; markers differ too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "text.parse_math": False,
}
WIDEST = 28
"""Most characters of a policy's name on one line."""
NOTE = f"Whiskers: {CONFIDENCE:.0%} Wilson intervals over starts."


def plot_success_rates(comparison: Comparison) -> Figure:
    """Draw one panel per task and two bars per policy, the strongest policy in reality on top.

    A policy without trials has only a simulated bar, below the policies with trials.
    """
    tasks, policies = comparison.simulated_tasks, comparison.simulated_policies
    with mpl.rc_context(STYLE):
        figure = Figure((2 + 4 * len(tasks), 1.5 + 0.62 * len(policies)), layout="constrained")
        panels = figure.subplots(1, len(tasks), sharex=True, sharey=True, squeeze=False)[0]
        for panel, task in zip(panels, tasks, strict=True):
            for row, policy in enumerate(policies):
                if cell := comparison.cell(task, policy):
                    _bars(panel, row, cell, with_real=bool(comparison.compared))
            panel.set(title=task, xlim=(0, 1.16), ylim=(-0.6, len(policies) - 0.4))
            panel.set_yticks(range(len(policies)), [_label(policy) for policy in policies])
            _percent_axis(panel, "x")
            panel.spines["left"].set_visible(False)
            panel.spines["bottom"].set_bounds(0, 1)
        sides = {comparison.reference: REAL} if comparison.compared else {}
        sides["world model"] = SIMULATED
        bars = [Line2D([], [], color=colour, linewidth=8) for colour in sides.values()]
        figure.legend(bars, list(sides), loc="outside upper right", ncols=2)
        figure.supxlabel(f"Success rate. {NOTE}", fontsize=9, x=0.99, ha="right")
    return figure


def plot_scatter(comparison: Comparison) -> Figure:
    """Draw one panel per task: simulated against real rates, with whiskers and the diagonal.

    Only policies with trials have a point.
    """
    tasks, policies = comparison.tasks, comparison.policies
    with mpl.rc_context(STYLE):
        figure = Figure((2 + 3.9 * len(tasks), 4.6), layout="constrained")
        panels = figure.subplots(1, len(tasks), sharex=True, sharey=True, squeeze=False)[0]
        for panel, task in zip(panels, tasks, strict=True):
            panel.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (5, 4)), zorder=0)
            for cell in (c for c in comparison.compared if c.task == task):
                _point(panel, cell, policies.index(cell.policy))
            panel.set(title=task, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal")
            panel.set_xlabel(f"success on the {comparison.reference}")
            _write_correlation(panel, next(a for a in comparison.agreements if a.task == task))
            _percent_axis(panel, "x")
            _percent_axis(panel, "y")
        panels[0].set_ylabel("success in the world model")
        handles = [
            Line2D([], [], linestyle="none", markersize=8, **_mark(i)) for i in range(len(policies))
        ]
        labels = [_label(policy) for policy in policies]
        figure.legend(
            handles[::-1], labels[::-1], loc="outside right upper", title="strongest first"
        )
        figure.supxlabel(f"Dashed: equal success. {NOTE}", fontsize=9, x=0.99, ha="right")
    return figure


def save_figure(path: Path, figure: Figure) -> None:
    """Write a PNG, atomically."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=160, facecolor="white")


def _bars(panel: Axes, row: int, cell: Cell, *, with_real: bool) -> None:
    """Draw the real bar above the simulated one; without any trials, the simulated one alone."""
    if with_real:
        _bar(panel, row + 0.19, cell.real, REAL, NO_TRIALS)
    y = row - 0.19 * with_real
    _bar(panel, y, cell.simulated, SIMULATED, NO_VERDICT)


def _bar(panel: Axes, y: float, rate: Rate, colour: str, without: str) -> None:
    """Draw a rate with its interval, or the text `without` if there is no rate."""
    if not rate.n:
        panel.text(0.01, y, without, va="center", fontsize=8, style="italic")
        return
    low, high = rate.interval
    panel.barh(y, rate.value, height=0.34, color=colour, zorder=2)
    panel.plot([low, high], [y, y], color="white", linewidth=3.2, zorder=3)
    panel.plot([low, high], [y, y], color=INK, linewidth=1.4, zorder=4)
    panel.text(high + 0.015, y, percent(rate.value), va="center", fontsize=8)


def _point(panel: Axes, cell: Cell, index: int) -> None:
    x, y, mark = cell.real, cell.simulated, _mark(index)
    panel.errorbar(
        x.value,
        y.value,
        xerr=_whisker(x),
        yerr=_whisker(y),
        linestyle="none",
        ecolor=mark["color"],
        elinewidth=1,
        alpha=0.45,
    )
    panel.plot(x.value, y.value, linestyle="none", markersize=8, zorder=3, **mark)


def _write_correlation(panel: Axes, agreement: Agreement) -> None:
    r = with_interval(agreement.summaries["pearson"])
    panel.text(1.02, 0, f"r = {r}\nk = {len(agreement.policies)} policies", ha="right", fontsize=9)


def _label(policy: str) -> str:
    """Return a policy's name, broken into lines that leave room for the bars."""
    return "\n".join(policy[i : i + WIDEST] for i in range(0, len(policy), WIDEST))


def _whisker(rate: Rate) -> Sequence[Sequence[float]]:
    low, high = rate.interval
    return [[max(0.0, rate.value - low)], [max(0.0, high - rate.value)]]


def _mark(index: int) -> dict[str, Any]:
    return {
        "marker": MARKERS[index % len(MARKERS)],
        "color": POINTS[index % len(POINTS)],
        "markeredgecolor": "white",
        "markeredgewidth": 0.8,
    }


def _percent_axis(panel: Axes, axis: str) -> None:
    ticks = np.linspace(0, 1, 5)
    getattr(panel, f"set_{axis}ticks")(ticks, [percent(tick) for tick in ticks])
    panel.grid(axis=axis, color=FAINT, linewidth=0.6, alpha=0.7)  # type: ignore[arg-type]
    panel.set_axisbelow(True)
