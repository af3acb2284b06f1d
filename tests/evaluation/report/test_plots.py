"""The figures show the values of the comparison, and leave matplotlib's settings unchanged."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from v2w_gym.evaluation.compare.comparison import Comparison, compare
from v2w_gym.evaluation.report.plots import plot_scatter, plot_success_rates, save_figure


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


def make(simulated: dict[str, bool], real: dict[str, bool]) -> Comparison:
    """One task, four starts that all end as given."""
    sides = []
    for outcomes in (simulated, real):
        table = pd.DataFrame(
            {
                "policy": np.repeat(list(outcomes), 4).astype(object),
                "success": np.repeat(list(outcomes.values()), 4).astype(object),
            }
        )
        start = np.tile(range(4), len(outcomes))
        sides.append(table.assign(task="close_drawer", start=start, start_seed=start, seed=0))
    return compare(*sides)


def test_a_policy_without_trials_has_one_bar_and_no_point() -> None:
    comparison = make({"tried": True, "mine": True}, {"tried": True})
    [panel] = plot_success_rates(comparison).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["mine", "tried"]
    assert sorted(round(bar.get_y() + bar.get_height() / 2) for bar in panel.patches) == [0, 1, 1]
    assert [text.get_text() for text in panel.texts if "no trials" in text.get_text()]
    [panel] = plot_scatter(comparison).axes
    markers = [line for line in panel.lines if line.get_marker() not in ("None", "", None)]
    assert len(markers) == 1


def test_without_any_trials_there_are_simulated_bars_alone() -> None:
    figure = plot_success_rates(make({"mine": True, "other": False}, {}))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["world model"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["a$b$", r"$\nonsense{$", "a_b^c", "50%\\", "<b>"])
def test_names_are_drawn_as_they_are(name: str, tmp_path: Path) -> None:
    comparison = make({name: True, "b": False, "c": True}, {name: True, "b": False, "c": True})
    for plot in (plot_success_rates, plot_scatter):
        figure = plot(comparison)
        save_figure(tmp_path / "figure.png", figure)
        drawn = [text for text in figure.findobj(Text) if text.get_text() == name]
        assert drawn and not any(text.get_parse_math() for text in drawn)


@pytest.mark.filterwarnings("error")
def test_a_long_name_leaves_room_for_the_bars(tmp_path: Path) -> None:
    name = "lab/" + "finetuned_" * 9
    figure = plot_success_rates(make({name: True}, {}))
    save_figure(tmp_path / "figure.png", figure)
    [label] = figure.axes[0].get_yticklabels()
    assert label.get_text().replace("\n", "") == name
    assert figure.axes[0].get_position().width > 0.4


def test_saved_whole_and_without_global_state(comparison: Comparison, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    save_figure(tmp_path / "bars.png", plot_success_rates(comparison))
    assert dict(mpl.rcParams) == before
    assert imread(tmp_path / "bars.png").shape[2] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["bars.png"]
