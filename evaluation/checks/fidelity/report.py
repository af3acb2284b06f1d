"""Write what was found of samplers: numbers, a page to read, curves and a strip of frames."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.evaluation.checks.bench.costs import Cost
from v2w_gym.evaluation.checks.fidelity.change import EQUAL, Distance, SuccessChange
from v2w_gym.evaluation.compare.statistics import Estimate
from v2w_gym.evaluation.compare.writing import points, with_interval
from v2w_gym.evaluation.records.strips import choose_columns, draw_grid
from v2w_gym.evaluation.report.plots import FAINT, INK, MARKERS, POINTS, STYLE, save_figure
from v2w_gym.world_models.files import replacing, write_text

FLOOR_ROW = 1
"""Where in `Fidelity.measured` the baseline with another seed is."""


@dataclass(frozen=True)
class Measured:
    """What was found of one sampler.

    Attributes:
        name: What it is called.
        sampler: Its settings.
        model: Fingerprint of the world model with this sampler.
        cost: The work of one frame, once the window is full.
        milliseconds: Median time for one imagined frame, decoding included.
        relative_time: That time as a share of the baseline's; None if another process took it.
        distance: How far its rollouts are from the baseline's; None for the baseline.
        recorded_psnr: PSNR of whole rollouts against what was recorded, in dB; None where nothing
            was.
        recorded_change: How much higher that is than the baseline's, rollout by rollout.
        success: Success in closed loop, for each policy and for all; empty where it was not asked
            for. The baseline is compared with itself.
    """

    name: str
    sampler: dict[str, Any]
    model: str
    cost: Cost
    milliseconds: float
    relative_time: float | None
    distance: Distance | None
    recorded_psnr: Estimate | None
    recorded_change: Estimate | None
    success: tuple[SuccessChange, ...]


@dataclass(frozen=True)
class Fidelity:
    """What was found, and on which rollouts.

    Attributes:
        checkpoint: The world model, in words.
        task: Name of the task.
        rollouts: Number of rollouts imagined by every sampler.
        steps: Frames imagined in each.
        recorded: Whether they replay recorded episodes.
        seed: Seed of their noise.
        horizons: After how many frames errors are listed.
        measured: The baseline, the baseline with another seed, then the candidates.
    """

    checkpoint: str
    task: str
    rollouts: int
    steps: int
    recorded: bool
    seed: int
    horizons: tuple[int, ...]
    measured: tuple[Measured, ...]


def write_report(folder: Path, found: Fidelity, frames: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write `fidelity.json`, `fidelity.md`, `fidelity.png` and `strip.png`.

    Args:
        folder: Where they go.
        found: What was found.
        frames: By name, what one rollout looks like, (T + 1, H, W, 3) each.
    """
    write_text(folder / "fidelity.json", json.dumps(asdict(found), indent=2) + "\n")
    write_text(folder / "fidelity.md", to_markdown(found))
    save_figure(folder / "fidelity.png", plot_fidelity(found))
    columns = choose_columns(found.steps + 1)
    rows = [video[columns] for video in frames.values()]
    captions = [f"frame {column}" for column in columns]
    title = f"{found.task}: one rollout, imagined with different samplers"
    with replacing(folder / "strip.png") as unfinished:
        Image.fromarray(draw_grid(rows, list(frames), captions, title)).save(unfinished, "PNG")


def to_markdown(found: Fidelity) -> str:
    """Return the result as a page to read and paste."""
    baseline, *others = found.measured
    kind = "recorded episodes" if found.recorded else "bundled starts with moves drawn at random"
    settings = ", ".join(f"{name}={value}" for name, value in baseline.sampler.items())
    parts = [
        "# What a cheaper sampler changes",
        f"World model: {found.checkpoint} (`{baseline.model[:12]}`). {found.task}, n = "
        f"{found.rollouts} {kind}, {found.steps} frames each. All samplers have the same noise, "
        "except for another seed, which says how far apart two equally good rollouts are.",
        f"Baseline: {settings}.",
        "Intervals are 95 %: Student's over rollouts, Wilson's for success rates, Newcombe's for "
        "the difference of two rates seen in the same rollouts.",
        "What one frame costs (frames through the network once the window is full, and time), and "
        "the PSNR of whole rollouts against the baseline's:",
        _table([_overview(measured, baseline) for measured in found.measured]),
        "How far single frames are from the baseline's: PSNR in dB, and the root mean square "
        "difference of latents as a share of their own root mean square:",
        _table([_by_horizon(measured, found.horizons) for measured in others]),
    ]
    if baseline.success:
        acted = [(measured.name, change) for measured in others for change in measured.success]
        parts.append("Closed loop, from the same starts with the same noise:")
        parts.append(_table([_closed_loop(name, change) for name, change in acted]))
    return "\n\n".join(parts) + "\n"


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


def _overview(measured: Measured, baseline: Measured) -> dict[str, str]:
    share, is_baseline = measured.relative_time, measured is baseline
    differs = (f"{k}={v}" for k, v in measured.sampler.items() if v != baseline.sampler[k])
    row = {
        "sampler": measured.name,
        "differs in": ", ".join(differs),
        "frame-forwards": f"{measured.cost.frame_forwards}",
        "ms": f"{measured.milliseconds:.1f}",
        "of the baseline's": "not comparable" if share is None else f"{share:.2f}",
        "PSNR, dB": _decibels(measured.distance.rollout_psnr if measured.distance else None),
    }
    if baseline.recorded_psnr:
        change = None if is_baseline else measured.recorded_change
        row["PSNR against the recording, dB"] = _decibels(measured.recorded_psnr)
        row["change, dB"] = _decibels(change)
    if baseline.success:
        pooled = measured.success[-1] if measured.success else None
        row["success of all policies"] = with_interval(pooled.success) if pooled else ""
        row["change, points"] = _flips(pooled) if pooled and not is_baseline else ""
    return row


def _by_horizon(measured: Measured, horizons: Sequence[int]) -> dict[str, str]:
    assert measured.distance is not None  # the baseline alone has none
    psnr, latent = measured.distance.psnr, measured.distance.latent_error
    return {
        "sampler": measured.name,
        **{f"PSNR, frame {h}": _decibels(psnr[h]) for h in horizons},
        **{f"latent, frame {h}": with_interval(latent[h], _share) for h in horizons},
    }


def _closed_loop(name: str, change: SuccessChange) -> dict[str, str]:
    return {
        "sampler": name,
        "policy": change.policy,
        "n": f"{change.n}",
        "abstained": f"{change.abstained}",
        "baseline": with_interval(change.baseline),
        "success": with_interval(change.success),
        "change, points": _flips(change),
        "p": f"{change.p_value:.2f}",
    }


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _decibels(of: Estimate | None) -> str:
    if of is None:
        return ""
    return "equal" if of.low == EQUAL else with_interval(of, lambda value: f"{value:.1f}")


def _share(value: float) -> str:
    return f"{max(value, 0):.3f}"


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
