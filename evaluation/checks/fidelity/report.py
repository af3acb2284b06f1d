"""Write what was found of samplers: numbers, a page to read, curves and a strip of frames."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.evaluation.checks.fidelity.distance import EQUAL
from v2w_gym.evaluation.checks.fidelity.result import Fidelity, Measured
from v2w_gym.evaluation.checks.fidelity.success import SuccessChange
from v2w_gym.evaluation.compare.statistics import Estimate
from v2w_gym.evaluation.compare.writing import points, with_interval
from v2w_gym.evaluation.records.strips import choose_columns, draw_grid
from v2w_gym.evaluation.report.plots import FAINT, INK, MARKERS, POINTS, STYLE, save_figure
from v2w_gym.world_models.files import replacing, write_text

FLOOR_ROW = 1
"""Where in `Fidelity.measured` the baseline with another seed is."""


def write_report(folder: Path, found: Fidelity, frames: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write `fidelity.json`, `fidelity.md`, `fidelity.png` and `strip.png`.

    Args:
        folder: Where they go.
        found: What was found.
        frames: By name, what one rollout looks like, (T + 1, H, W, 3) each.
    """
    for name, text in (
        ("fidelity.json", json.dumps(asdict(found), indent=2) + "\n"),
        ("fidelity.md", to_markdown(found)),
    ):
        write_text(folder / name, text)
    save_figure(folder / "fidelity.png", plot_fidelity(found))
    columns = choose_columns(found.steps + 1)
    rows = [video[columns] for video in frames.values()]
    captions = [f"frame {column}" for column in columns]
    title = f"{found.task}: one rollout, imagined with different samplers"
    with replacing(folder / "strip.png") as unfinished:
        Image.fromarray(draw_grid(rows, list(frames), captions, title)).save(unfinished, "PNG")


def to_markdown(found: Fidelity) -> str:
    """Return the result as a page to read and paste."""
    sections = [_introduction(found), _overview(found), _by_horizon(found)]
    if any(measured.success for measured in found.measured):
        sections.append(_closed_loop(found))
    return "\n".join(line for section in sections for line in [*section, ""])


def plot_fidelity(found: Fidelity) -> Figure:
    """Draw error and PSNR over frames, a line per candidate; the floor is dashed."""
    with mpl.rc_context(STYLE):
        figure = Figure((10, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for row, measured in enumerate(found.measured):
            if measured.distance is not None:
                style = _line(row, found.steps)
                _curve(left, measured.distance.latent_error, measured.name, style)
                _curve(right, measured.distance.psnr, measured.name, style)
        left.set(title="Latents", ylabel="difference from the baseline, share", ylim=(0, None))
        right.set(title="Pixels", ylabel="PSNR against the baseline, dB")
        for panel in (left, right):
            panel.set_xlabel("frame")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.grid(axis="y", color=FAINT, linewidth=0.6)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        note = (
            f"n = {found.rollouts} rollouts of {found.task}; bands: Student's 95 % intervals; "
            f"equal frames are at {EQUAL:.0f} dB."
        )
        figure.supxlabel(note, fontsize=9, x=0.99, ha="right")
    return figure


def _introduction(found: Fidelity) -> list[str]:
    baseline = found.measured[0]
    kind = "recorded episodes" if found.recorded else "bundled starts with moves drawn at random"
    settings = ", ".join(f"{name}={value}" for name, value in baseline.sampler.items())
    return [
        "# What a cheaper sampler changes",
        "",
        f"World model: {found.checkpoint} (`{baseline.model[:12]}`). {found.task}, n = "
        f"{found.rollouts} {kind}, {found.steps} frames each. All samplers have the same noise, "
        "except for another seed, which says how far apart two equally good rollouts are.",
        "",
        f"Baseline: {settings}.",
        "",
        "Intervals are 95 %: Student's over rollouts, Wilson's for success rates, Newcombe's for "
        "the difference of two rates seen in the same rollouts.",
    ]


def _overview(found: Fidelity) -> list[str]:
    baseline = found.measured[0]
    head = ["sampler", "differs in", "frame-forwards", "ms", "of the baseline's", "PSNR, dB"]
    if found.recorded:
        head += ["PSNR against the recording, dB", "change, dB"]
    if baseline.success:
        head += ["success of all policies", "change, points"]
    return [
        "What one frame costs (frames through the network once the window is full, and time), and "
        "the PSNR of whole rollouts against the baseline's:",
        "",
        *_table(head, [_overview_row(measured, baseline) for measured in found.measured]),
    ]


def _overview_row(measured: Measured, baseline: Measured) -> list[str]:
    share = measured.relative_time
    cells = [
        measured.name,
        _differences(measured, baseline),
        f"{measured.cost.frame_forwards}",
        f"{measured.milliseconds:.1f}",
        "not comparable" if share is None else f"{share:.2f}",
        _decibels(measured.distance.rollout_psnr if measured.distance else None),
    ]
    if baseline.recorded_psnr:
        change = None if measured is baseline else measured.recorded_change
        cells += [_decibels(measured.recorded_psnr), _decibels(change)]
    if baseline.success:
        pooled = measured.success[-1] if measured.success else None
        cells.append(with_interval(pooled.success) if pooled else "")
        cells.append(_flips(pooled) if pooled and measured is not baseline else "")
    return cells


def _by_horizon(found: Fidelity) -> list[str]:
    rows = [
        [
            measured.name,
            *(_decibels(measured.distance.psnr[h]) for h in found.horizons),
            *(_share(measured.distance.latent_error[h]) for h in found.horizons),
        ]
        for measured in found.measured
        if measured.distance is not None
    ]
    head = [f"{what}, frame {h}" for what in ("PSNR", "latent") for h in found.horizons]
    return [
        "How far single frames are from the baseline's: PSNR in dB, and the root mean square "
        "difference of latents as a share of their own root mean square:",
        "",
        *_table(["sampler", *head], rows),
    ]


def _closed_loop(found: Fidelity) -> list[str]:
    rows = [
        [
            measured.name,
            change.policy,
            f"{change.n}",
            f"{change.abstained}",
            with_interval(change.baseline),
            with_interval(change.success),
            _flips(change),
            f"{change.p_value:.2f}",
        ]
        for measured in found.measured[1:]
        for change in measured.success
    ]
    head = ["sampler", "policy", "n", "abstained", "baseline", "success", "change, points", "p"]
    return ["Closed loop, from the same starts with the same noise:", "", *_table(head, rows)]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _differences(measured: Measured, baseline: Measured) -> str:
    return ", ".join(
        f"{name}={value}"
        for name, value in measured.sampler.items()
        if value != baseline.sampler[name]
    )


def _decibels(of: Estimate | None) -> str:
    if of is None:
        return ""
    return "equal" if of.low == EQUAL else with_interval(of, lambda value: f"{value:.1f}")


def _share(of: Estimate) -> str:
    return with_interval(of, lambda value: f"{max(value, 0):.3f}")


def _flips(change: SuccessChange) -> str:
    written = with_interval(change.change, points)
    return f"{written}, {change.gained} gained and {change.lost} lost of {change.n}"


def _line(row: int, steps: int) -> dict[str, Any]:
    """Return how a sampler is drawn; markers take turns, so that lines on each other show."""
    if row == FLOOR_ROW:
        return {"color": INK, "linestyle": (0, (5, 4))}
    index, apart = row - FLOOR_ROW - 1, -(-steps // 16)
    return {
        "color": POINTS[index % len(POINTS)],
        "marker": MARKERS[index % len(MARKERS)],
        "markevery": (index * apart, 3 * apart),
    }


def _curve(
    panel: Axes, values: Mapping[int, Estimate], name: str, style: Mapping[str, Any]
) -> None:
    frames = list(values)
    panel.plot(frames, [v.value for v in values.values()], label=name, markersize=5, **style)
    low, high = ([getattr(v, end) for v in values.values()] for end in ("low", "high"))
    panel.fill_between(frames, low, high, color=style["color"], alpha=0.12, linewidth=0)
