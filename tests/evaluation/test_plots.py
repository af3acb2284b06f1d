"""The figures show what the comparison holds, and leave matplotlib as it was."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from evaluation.comparison import Comparison, compare
from evaluation.plots import plot_scatter, plot_success_rates, save_figure


@pytest.fixture
def comparison() -> Comparison:
    table = pd.DataFrame(
        {
            "policy": np.repeat(["we$ak", "strong_one"], 8),
            "task": ["close_drawer", "open_drawer"] * 8,
            "start": np.tile(np.repeat(range(4), 2), 2),
            "start_seed": np.tile(np.repeat(range(4), 2), 2),
            "seed": 0,
            "success": [False] * 7 + [True] * 9,
        }
    )
    return compare(table, table)


def test_bars_have_the_lengths_of_the_rates(comparison: Comparison) -> None:
    figure = plot_success_rates(comparison)
    assert [panel.get_title("left") for panel in figure.axes] == ["close_drawer", "open_drawer"]
    widths = [[bar.get_width() for bar in panel.patches] for panel in figure.axes]
    assert widths == [[0, 0, 1, 1], [0.25, 0.25, 1, 1]]  # weakest first, reality before simulation
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "we$ak",
        "strong_one",
    ]


def test_points_lie_where_the_rates_are(comparison: Comparison) -> None:
    panel = plot_scatter(comparison).axes[1]
    markers = [line for line in panel.lines if line.get_marker() not in ("None", "", None)]
    points = {(float(m.get_xdata()[0]), float(m.get_ydata()[0])) for m in markers}  # type: ignore[index]
    assert points >= {(0.25, 0.25), (1.0, 1.0)}
    assert "r needs" not in panel.texts[0].get_text()


def test_saved_whole_and_without_global_state(comparison: Comparison, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save_figure(tmp_path / "bars.png", plot_success_rates(comparison))
    assert dict(mpl.rcParams) == before
    assert imread(tmp_path / "bars.png").shape[2] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["bars.png"]
