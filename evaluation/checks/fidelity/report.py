"""Write the comparison of samplers: numbers, a page, a plot and a strip of frames."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.evaluation.checks.fidelity.change import EQUAL
from v2w_gym.evaluation.compare.writing import table_of, written
from v2w_gym.evaluation.records.strips import choose_columns, draw_grid
from v2w_gym.evaluation.report.plots import FAINT, INK, MARKERS, POINTS, STYLE, save_figure
from v2w_gym.world_models.files import replacing, write_text

Report: TypeAlias = dict[str, Any]
"""The results: JSON values and `Estimate`s, as `fidelity.json` holds them."""


def write_report(folder: Path, found: Report, videos: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write `fidelity.json`, `fidelity.md`, `fidelity.png` and `strip.png`.

    `videos` holds rollouts (N, T + 1, H, W, 3) by name; the strip shows the first of each.
    """
    write_text(folder / "fidelity.json", json.dumps(found, default=asdict, indent=2) + "\n")
    write_text(folder / "fidelity.md", to_markdown(found))
    save_figure(folder / "fidelity.png", plot_psnr(found))
    columns = choose_columns(found["steps"] + 1)
    rows = [video[0, columns] for video in videos.values()]
    captions = [f"frame {column}" for column in columns]
    title = f"{found['task']}: one rollout, imagined with different samplers"
    with replacing(folder / "strip.png") as unfinished:
        Image.fromarray(draw_grid(rows, list(videos), captions, title)).save(unfinished, "PNG")


def to_markdown(found: Report) -> str:
    """Return the result as a page to read and paste."""
    kind = "recorded episodes" if found["recorded"] else "bundled starts with random moves"
    by_horizon = [
        {"sampler": name, **{f"frame {h}": psnr[h] for h in found["horizons"]}}
        for name, psnr in found["psnr"].items()
    ]
    parts = [
        "# What a cheaper sampler changes",
        f"World model: {found['checkpoint']} (`{found['model'][:12]}`). {found['task']}, n = "
        f"{found['rollouts']} {kind}, {found['steps']} frames each. All samplers have the same "
        "noise, except for another_seed, which shows how much two equally good rollouts differ.",
        f"Baseline: {written(found['baseline'])}.",
        "Intervals are 95 %: Student's over rollouts, Wilson's for success rates, Newcombe's for "
        "the difference of two rates over the same rollouts.",
        "What one frame costs once the window is full (`ms` as timed when it was imagined), and "
        "the PSNR of whole rollouts against the baseline's, in dB:",
        table_of(found["samplers"]),
        f"PSNR of single frames against the baseline's, in dB; equal frames are at {EQUAL:.0f}:",
        table_of(by_horizon),
    ]
    if found["success"]:
        parts.append("Success in closed loop, from the same starts with the same noise:")
        parts.append(table_of(found["success"]))
    return "\n\n".join(parts) + "\n"


def plot_psnr(found: Report) -> Figure:
    """Draw the PSNR over frames, a line per candidate; the floor is dashed."""
    with mpl.rc_context(STYLE):
        figure = Figure((7, 4.2), layout="constrained")
        panel = figure.subplots()
        floor, *others = found["psnr"]
        styles: dict[str, dict[str, Any]] = {floor: {"color": INK, "linestyle": (0, (5, 4))}}
        apart = -(-found["steps"] // 16)
        for i, name in enumerate(others):  # markers take turns, so that lines on each other show
            color, marker = POINTS[i % len(POINTS)], MARKERS[i % len(MARKERS)]
            styles[name] = {"color": color, "marker": marker, "markevery": (i * apart, 3 * apart)}
        for name, style in styles.items():
            psnr = found["psnr"][name]
            mean, low, high = zip(*((e.value, e.low, e.high) for e in psnr.values()), strict=True)
            panel.plot(list(psnr), mean, label=name, markersize=5, **style)
            panel.fill_between(list(psnr), low, high, color=style["color"], alpha=0.12, linewidth=0)
        panel.set(xlabel="frame", ylabel="PSNR against the baseline, dB")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(axis="y", color=FAINT, linewidth=0.6)
        figure.legend(loc="outside upper right", ncols=len(styles))
        note = (
            f"n = {found['rollouts']} rollouts of {found['task']}; bands: 95 % intervals; "
            f"equal frames are at {EQUAL:.0f} dB."
        )
        figure.supxlabel(note, fontsize=9, x=0.99, ha="right")
    return figure
