"""Write the HTML report of a run: its verdict, statistics, plots and strips."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from v2w_gym.evaluation.compare.comparison import DRAWS, STANDIN, Agreement, Comparison, Pair
from v2w_gym.evaluation.compare.statistics import chance_of_perfect_order
from v2w_gym.evaluation.compare.verdict import FEW_POLICIES, headline, verdict
from v2w_gym.evaluation.compare.writing import (
    NO_TRIALS,
    NO_VERDICT,
    decimal,
    percent,
    points,
    with_interval,
)
from v2w_gym.evaluation.report.gallery import make_gallery
from v2w_gym.evaluation.report.plots import plot_scatter, plot_success_rates, save_figure
from v2w_gym.world_models.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
FIGURES = {"success_rates": plot_success_rates, "scatter": plot_scatter}
SUMMARIES = (
    (
        "pearson",
        "Pearson r",
        decimal,
        "Linear correlation of the rates. 1 is a perfect line, 0 is no correlation.",
    ),
    ("spearman", "Spearman rho", decimal, "Correlation of the ranks. 1 is the right order."),
    (
        "kendall",
        "Kendall tau-b",
        decimal,
        "Share of pairs in the right order minus share in the wrong order.",
    ),
    (
        "mmrv",
        "MMRV",
        decimal,
        "Largest real gap that simulation orders wrongly, averaged over policies. 0 is best.",
    ),
    (
        "mmrv_ties",
        "MMRV, tie-aware",
        decimal,
        "MMRV in which a simulated tie costs half of the real gap.",
    ),
    (
        "mean_bias",
        "Mean bias, points",
        points,
        "Simulated minus real success. Positive if simulation overestimates.",
    ),
    (
        "mean_absolute_error",
        "Mean error",
        percent,
        "Mean absolute difference of simulated and real success.",
    ),
    (
        "slope",
        "Slope",
        decimal,
        "Simulated difference per real difference. Below 1, simulation shrinks differences.",
    ),
    (
        "top1",
        "Top-1",
        decimal,
        "Whether the best policy in simulation is best in reality. 1 is yes.",
    ),
    ("regret", "Regret", percent, "Real success lost by choosing the best policy in simulation."),
)
"""Name in `Agreement.summaries`, label, format, explanation."""
TITLES = {
    "held_out": "measured on recorded frames",
    "generated": "measured on generated frames",
}
"""Part of a judge's card -> its title."""
SIGNS = {
    "same order": ("●", "significant on both sides, same order"),
    "opposite order": ("✕", "significant on both sides, opposite order"),
    "only simulated": ("◐", "significant in the world model only"),
    "only real": ("◑", "significant in reality only"),
    "neither": ("·", "significant on neither side"),
}
"""`Pair.separation` -> its sign in the report, and what the sign means."""


def write_report(
    run_folder: Path,
    comparison: Comparison,
    rows: pd.DataFrame,
    real: pd.DataFrame,
    judge_card: Mapping[str, Any],
    model_card: Mapping[str, Any],
) -> Path:
    """Write `report.html`, `success_rates.png` and `scatter.png` into a run folder.

    Without trials there is no scatter plot. The page contains its figures and strips, and links to
    the videos beside it.

    Args:
        run_folder: Folder of the run, with the rollouts' videos.
        comparison: Result of `compare(rows, real)`.
        rows: The rollouts.
        real: The trials.
        judge_card: Card of the judge; accuracy on generated frames under "generated".
        model_card: Card of the world model.

    Returns:
        The page's path.
    """
    figures = _save_figures(run_folder, comparison)
    page = _template().render(
        comparison=comparison,
        headline=headline(comparison),
        findings=verdict(comparison),
        few=0 < len(comparison.policies) < FEW_POLICIES,
        standin=bool(comparison.compared) and comparison.reference == STANDIN,
        figures={name: _embed(path) for name, path in figures.items()},
        summaries=SUMMARIES,
        signs=SIGNS,
        matrices={task: _matrix(comparison, task) for task in comparison.tasks},
        orders={a.task: f"1 / {round(1 / _chance(a)):,}" for a in comparison.agreements},
        strips=make_gallery(run_folder, comparison, rows, real),
        judge_card=judge_card,
        model_card=model_card,
        run=_read_run(run_folder),
        draws=DRAWS,
        repeated=any(c.simulated.attempts > c.simulated.n for c in comparison.cells),
        rollouts=len(rows),
        trials=len(real),
        no_trials=NO_TRIALS,
        no_verdict=NO_VERDICT,
    )
    path = run_folder / "report.html"
    write_text(path, page)
    return path


def _save_figures(run_folder: Path, comparison: Comparison) -> dict[str, Path]:
    """Draw the figures; without trials, remove the scatter plot of an earlier comparison."""
    paths = {name: run_folder / f"{name}.png" for name in FIGURES}
    if not comparison.compared:
        paths.pop("scatter").unlink(missing_ok=True)
    for name, path in paths.items():
        save_figure(path, FIGURES[name](comparison))
    return paths


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "decimal": decimal,
        "with_interval": with_interval,
        "plain": lambda name: str(name).replace("_", " "),
        "code": lambda text: Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text)))),
        "brief": lambda value: f"{value:.5g}" if isinstance(value, float) else value,
    }
    environment.globals["titles"] = TITLES
    return environment.get_template("report.html.j2")


def _embed(png: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()


def _chance(agreement: Agreement) -> float:
    return chance_of_perfect_order(len(agreement.policies))


def _matrix(comparison: Comparison, task: str) -> list[tuple[str, list[Pair | None]]]:
    """Return the pairs of a task as rows of a triangle, the strongest policy first."""
    pairs = {frozenset((p.first, p.second)): p for p in comparison.pairs if p.task == task}
    mine = {cell.policy for cell in comparison.compared if cell.task == task}
    names = [policy for policy in reversed(comparison.policies) if policy in mine]
    return [
        (name, [pairs[frozenset((name, other))] for other in names[:i]] + [None])
        for i, name in enumerate(names)
    ]


def _read_run(run_folder: Path) -> Mapping[str, Any]:
    """Return the settings in a run folder; empty if there are none."""
    path = run_folder / "run.json"
    settings: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return settings
