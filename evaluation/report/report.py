"""Write one HTML page that says what a run showed, how sure that is, and what it looked like."""

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
        "Do the rates lie on a line? 1 is a perfect line, 0 is no relation.",
    ),
    ("spearman", "Spearman rho", decimal, "The same for ranks: is the order right?"),
    ("kendall", "Kendall tau-b", decimal, "Pairs in the right order minus pairs in the wrong one."),
    (
        "mmrv",
        "MMRV",
        decimal,
        "Largest real gap that simulation orders wrongly, mean over policies; 0 is best.",
    ),
    (
        "mmrv_ties",
        "MMRV, tie-aware",
        decimal,
        "The same; a simulated tie costs half of the real gap.",
    ),
    (
        "mean_bias",
        "Mean bias, points",
        points,
        "Simulated minus real success; positive where simulation overestimates.",
    ),
    ("mean_absolute_error", "Mean error", percent, "Mean distance of simulated and real success."),
    (
        "slope",
        "Slope",
        decimal,
        "Simulated gap per real gap; below 1, simulation shows differences smaller.",
    ),
    ("top1", "Top-1", decimal, "Is the winner in simulation a winner in reality? 1 is yes."),
    ("regret", "Regret", percent, "Real success lost by choosing the winner in simulation."),
)
"""Name in `Agreement.summaries`, label, how it is written, what it means."""
TITLES = {
    "held_out": "measured on recorded frames",
    "generated": "measured on generated frames",
}
"""What parts of a judge's card are about."""
TOLD = {
    "same order": ("●", "told apart on both sides, same order"),
    "opposite order": ("✕", "told apart on both sides, opposite order"),
    "only simulated": ("◐", "told apart in the world model only"),
    "only real": ("◑", "told apart in reality only"),
    "neither": ("·", "told apart on neither side"),
}


def write_report(
    run_folder: Path,
    comparison: Comparison,
    rows: pd.DataFrame,
    real: pd.DataFrame,
    judge_card: Mapping[str, Any],
    model_card: Mapping[str, Any],
) -> Path:
    """Write `report.html`, `success_rates.png` and `scatter.png` into a run folder.

    There is no scatter where nothing is compared. The page holds its figures and strips; only the
    videos it links to are files beside it.

    Args:
        run_folder: Where the rollouts' videos lie.
        comparison: What `compare(rows, real)` returned.
        rows: The rollouts.
        real: The trials they are compared with.
        judge_card: What is known of the judge; accuracy on generated frames under "generated".
        model_card: What is known of the world model.

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
        told=TOLD,
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
    """Draw what there is to draw; a scatter of an earlier comparison does not stay beside it."""
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
    """Return the pairs of one task as rows of a triangle, the strongest policy first."""
    pairs = {frozenset((p.first, p.second)): p for p in comparison.pairs if p.task == task}
    mine = {cell.policy for cell in comparison.compared if cell.task == task}
    names = [policy for policy in reversed(comparison.policies) if policy in mine]
    return [
        (name, [pairs[frozenset((name, other))] for other in names[:i]] + [None])
        for i, name in enumerate(names)
    ]


def _read_run(run_folder: Path) -> Mapping[str, Any]:
    """Return the settings that a run folder keeps; empty where there are none."""
    path = run_folder / "run.json"
    settings: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return settings
