"""A film of recorded episodes: the frames, and beside them every action value over time."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from v2w_gym.configs.action_layouts import GRIPPER, OPENING
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.text import printable
from v2w_gym.evaluation.data.reading import EpisodeFacts
from v2w_gym.evaluation.data.values import FieldValues, group_fields
from v2w_gym.evaluation.records.strips import resize
from v2w_gym.evaluation.report.plots import FAINT, POINTS, STYLE

HEIGHT, WIDTH = 480, 560
"""Pixels of the camera frame (its height) and of the panel of actions beside it (its width)."""
ABOVE = 64
"""Pixels above both, for the instruction."""
MARGIN = 16
DPI = 100
MOST_TRACES = 14
"""Most values that are drawn as traces; a field with more is drawn as rows of marks."""
WIDEST = 960
"""Most pixels from left to right of the camera frame."""
TINY = 128
"""Frames of fewer pixels from top to bottom are shown with square pixels."""
HELD = 4
"""Times that the last frame of an episode is shown."""
CURSOR = (200, 16, 46)
INKED = (31, 41, 51)
TICK = "#6B7785"
GREY = (107, 119, 133)
MOST_FRAMES = 120
"""Most frames of an episode that are shown; of a longer one, every second, third, ... frame."""
APART = 0.25
"""Distance of two bounds, as a share of the axis, from which both have room for a number."""
NOTHING = 1e-3
"""Share of a value's largest one that is written as 0, since nobody can see it in the trace."""
SHORT = 17
"""Most characters of a value's name in one line."""
LEAST_WIDTH = 480
"""Pixels that a caption needs."""


@dataclass(frozen=True)
class Trace:
    """One row of the panel: an action value over time, or a field of many marks.

    Attributes:
        name: Name of the value, or of the field.
        values: (T - 1, n); n > 1 for marks.
        bounds: The robot's bounds; None if they are unknown.
        is_gripper: Whether it moves the gripper.
        labels: Name of each of n marks; empty for one value.
    """

    name: str
    values: NDArray[np.float32]
    bounds: tuple[float, float] | None
    is_gripper: bool
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """The drawn traces of one episode.

    Attributes:
        picture: (H, W, 3) uint8.
        columns: Pixel column of each action (T - 1,).
        rows: Top, bottom of each trace's axes, in pixels.
        traces: The traces, from the top.
    """

    picture: NDArray[np.uint8]
    columns: NDArray[np.int64]
    rows: list[tuple[int, int]]
    traces: list[Trace]


def draw_film(
    facts: Sequence[EpisodeFacts], acting: set[int], robot: RobotSpec | None
) -> Iterator[NDArray[np.uint8]]:
    """Play episodes one after the other, each frame with the actions around it.

    Args:
        facts: The episodes.
        acting: Numbers of the episodes whose actions are drawn.
        robot: The robot whose bounds are drawn; None without one.

    Yields:
        Pictures (height, width, 3) uint8 of one even size.
    """
    panels = [_draw_panel(_traces(e, robot)) if e.number in acting else None for e in facts]
    width = max(_width(e, panel) for e, panel in zip(facts, panels, strict=True))
    for place, (each, panel) in enumerate(zip(facts, panels, strict=True), 1):
        count = len(each.episode)
        stride = -(-count // MOST_FRAMES)
        for step in range(0, count, stride):
            moment = _moment(each, step, panel, f"{place} of {len(facts)}", width)
            yield moment
        for _ in range(HELD):
            yield moment


def _width(facts: EpisodeFacts, panel: Panel | None) -> int:
    """Return the pixels from left to right that an episode needs, an even number."""
    _, shown = _shown_size(facts.size)
    needed = max(shown + 2 * MARGIN + (WIDTH + MARGIN if panel else 0), LEAST_WIDTH)
    return needed + needed % 2


def _moment(
    facts: EpisodeFacts, step: int, panel: Panel | None, place: str, width: int
) -> NDArray[np.uint8]:
    """Draw one frame, the caption above it and the actions beside it."""
    episode = facts.episode
    shown = _enlarge(episode.frames[step : step + 1][0])
    canvas = Image.new("RGB", (width, HEIGHT + ABOVE + MARGIN), "white")
    canvas.paste(Image.fromarray(shown), (MARGIN, ABOVE))
    draw = ImageDraw.Draw(canvas)
    caption = f"“{printable(episode.instruction)}”" if episode.instruction else "no instruction"
    where = f"episode {place}:  {printable(episode.id)},  frame {step} of {len(episode) - 1}"
    _write(draw, (MARGIN, 12), _cut(caption, width - 2 * MARGIN, 20), 20, INKED)
    _write(draw, (MARGIN, 40), _cut(where, width - 2 * MARGIN, 13), 13, GREY)
    if panel:
        left = shown.shape[1] + 2 * MARGIN
        canvas.paste(Image.fromarray(panel.picture), (left, ABOVE))
        _draw_cursor(draw, panel, step, left)
    return np.array(canvas)


def _enlarge(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring a frame to the height of the film; the pixels of a tiny one stay sharp."""
    height, width = _shown_size((frame.shape[0], frame.shape[1]))
    if frame.shape[0] < TINY:
        return resize(frame, height)
    return np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width at which frames are shown."""
    scale = min(HEIGHT / size[0], WIDEST / size[1])
    height = max(1, round(size[0] * scale))
    return height, round(size[1] * height / size[0])


def _draw_cursor(draw: ImageDraw.ImageDraw, panel: Panel, step: int, left: int) -> None:
    """Mark the action that is taken at this frame, and write its values."""
    if step >= len(panel.columns):
        return
    x = left + int(panel.columns[step])
    for trace, (top, bottom) in zip(panel.traces, panel.rows, strict=True):
        draw.line([(x, ABOVE + top), (x, ABOVE + bottom)], fill=CURSOR, width=2)
        text = _reading(trace, step)
        y = ABOVE + (top + bottom) // 2
        _write(draw, (left + WIDTH - 2, y), text, 13, INKED, anchor="rm")


def _reading(trace: Trace, step: int) -> str:
    """Return the values at a step in a few letters."""
    values = trace.values[step]
    if trace.labels:
        held = [label for label, value in zip(trace.labels, values, strict=True) if value > 1 / 2]
        return " ".join(held)[:10] or "-"
    value = float(values[0])
    if trace.is_gripper and trace.bounds == (-1, 1):
        return "closes" if value > 0.05 else "opens" if value < -0.05 else "holds"
    if trace.is_gripper:
        return "open" if value > 1 / 2 else "closed"
    finite = trace.values[np.isfinite(trace.values)]
    if abs(value) < NOTHING * np.abs(finite).max(initial=0):
        return "0"
    return f"{value:+.2g}" if value and min(trace.bounds or (-1,)) < 0 else f"{value:.2g}"


def _traces(facts: EpisodeFacts, robot: RobotSpec | None) -> list[Trace]:
    """Return the traces of an episode; values that are at rest throughout are left out."""
    actions = facts.episode.actions
    if actions is None or not len(actions):
        return []
    found: list[Trace] = []
    for field in group_fields([actions], facts.episode.action_fields, robot):
        found += _field_traces(field)
    return found


def _field_traces(field: FieldValues) -> list[Trace]:
    values, spec = np.nan_to_num(field.episodes[0], posinf=0, neginf=0), field.spec
    moves = (np.abs(values - field.resting) > 0).any(axis=0)
    if not moves.any():
        return []
    bounds = None if spec is None else (spec.low, spec.high)
    labels = spec.labels if spec is not None else ()
    if (spec is not None and spec.is_one_hot) or field.size > MOST_TRACES:
        names = labels or tuple(map(str, range(field.size)))
        return [Trace(field.name, values, bounds, False, names)]
    gripper = field.name in (GRIPPER, OPENING)
    return [
        Trace(name if field.size > 1 else field.name, values[:, i : i + 1], bounds, gripper)
        for i, name in enumerate(field.labels)
        if moves[i]
    ]


def _draw_panel(traces: list[Trace]) -> Panel | None:
    if not traces:
        return None
    steps = len(traces[0].values)
    with mpl.rc_context({**STYLE, "font.size": 8}):
        figure = Figure((WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
        canvas = FigureCanvasAgg(figure)
        rows = figure.subplots(len(traces), 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(left=0.24, right=0.86, top=0.995, bottom=0.09, hspace=0.3)
        for index, (axes, trace) in enumerate(zip(rows, traces, strict=True)):
            _draw_trace(axes, trace, index)
            axes.set_xlim(-0.5, max(steps - 0.5, 0.5))
        for axes in rows[:-1]:
            axes.tick_params(labelbottom=False)
        rows[-1].set_xlabel("action")
        rows[-1].xaxis.get_major_locator().set_params(integer=True)
        canvas.draw()  # type: ignore[no-untyped-call]
        picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]
        points = np.stack([np.arange(steps), np.zeros(steps)], axis=1)
        columns = rows[0].transData.transform(points)[:, 0].round().astype(np.int64)
        boxes = [axes.get_window_extent() for axes in rows]
        spans = [(round(HEIGHT - box.y1), round(HEIGHT - box.y0)) for box in boxes]
    return Panel(picture, columns, spans, traces)


def _draw_trace(axes: Axes, trace: Trace, index: int) -> None:
    """Draw one value over time: grey lines are its bounds, the axis is rest."""
    colour = POINTS[index % len(POINTS)]
    axes.set_ylabel(_short(trace.name), rotation=0, ha="right", va="center", labelpad=4)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    steps = np.arange(len(trace.values))
    if trace.labels:
        axes.imshow(
            trace.values.T, aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="nearest"
        )
        return
    values = trace.values[:, 0]
    low, high = _range(values, trace.bounds)
    axes.set_ylim(low - 0.12 * (high - low), high + 0.12 * (high - low))
    for bound in trace.bounds or ():
        if low <= bound <= high:
            axes.axhline(bound, color=FAINT, linewidth=1, linestyle=(0, (3, 2)))
    if trace.bounds and APART * (high - low) < trace.bounds[1] - trace.bounds[0] <= high - low:
        for bound in trace.bounds:
            _label_bound(axes, bound)
    axes.axhline(0, color=FAINT, linewidth=0.6)
    axes.step(steps, values, where="mid", color=colour, linewidth=1.4)
    if trace.is_gripper:
        axes.fill_between(steps, 0, values, step="mid", color=colour, alpha=0.35, linewidth=0)


def _label_bound(axes: Axes, bound: float) -> None:
    """Write a bound at the right end of its line."""
    transform = axes.get_yaxis_transform()
    axes.text(
        *(1.005, bound, f"{bound:.3g}"), transform=transform, fontsize=6.5, color=TICK, va="center"
    )


def _range(values: NDArray[np.float32], bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Return what an axis shows: the values, and the bounds unless they are far away."""
    reach = float(np.abs(values).max(initial=1e-6))
    if bounds is not None and max(map(abs, bounds)) <= 4 * reach:
        return min(bounds[0], float(values.min())), max(bounds[1], float(values.max()))
    return -reach, reach


def _short(name: str) -> str:
    """Break a long name at an underscore near its middle, so that it fits beside its axis."""
    breaks = [place + 1 for place, letter in enumerate(name) if letter == "_"]
    if len(name) <= SHORT or not breaks:
        return name
    middle = min(breaks, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:middle]}\n{name[middle:]}"


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    anchor: str = "la",
) -> None:
    draw.text(at, text, colour, ImageFont.load_default(size=size), anchor=anchor)


def _cut(text: str, width: int, size: int) -> str:
    """Shorten text to a width in pixels."""
    font = ImageFont.load_default(size=size)
    if font.getlength(text) <= width:
        return text
    kept = bisect_right(
        range(len(text)), width, key=lambda n: int(font.getlength(f"{text[:n]}..."))
    )
    return text[: max(0, kept - 1)] + "..."
