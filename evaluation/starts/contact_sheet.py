"""Contact sheets: many starts in one picture, each with its number, episode and instruction."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from v2w_gym.world_models.data.starts.files import Start

MOST = 100
"""Most starts on a sheet."""
HEIGHT, WIDTH = 144, 176
"""Fewest pixels from top to bottom, and from left to right, of a frame."""
GAP, BELOW, MARGIN = 12, 20, 24
"""Pixels between columns, between rows, and around everything."""
SMALL, PLAIN, LARGE = 12, 14, 24
"""Sizes of the text, in pixels."""
LINE, UNDER = 17, 4
"""Pixels from line to line, and between a frame and its text."""
HEAD = MARGIN + LARGE + 2 * LINE + GAP
"""Pixels above the frames."""
INSTRUCTION_LINES = 3
SHAPE, FEWEST_COLUMNS = 4 / 3, 4
"""Width of a sheet of many starts over its height; fewer starts stand in one row."""
INK, FAINT, PAPER = "#1b1f24", "#6b7480", "white"
CUT = "..."


def draw_sheet(starts: Sequence[Start], title: str, subtitle: str) -> NDArray[np.uint8]:
    """Draw the newest frame of each start; of more than `MOST`, the first ones.

    Returns:
        A picture (height, width, 3), uint8.
    """
    shown = starts[:MOST]
    if len(shown) < len(starts):
        title += f", the first {MOST} of them"
    width, height = _scaled(shown[0].frame)
    captions = [_wrap(start.instruction or "", width) for start in shown]
    lines = max(map(len, captions))
    cell = width + GAP, height + (2 + lines) * LINE + BELOW
    columns = _count_columns(len(shown), *cell)
    sheet = _draw_head(title, subtitle, columns, math.ceil(len(shown) / columns), cell)
    for number, (start, caption) in enumerate(zip(shown, captions, strict=True)):
        row, column = divmod(number, columns)
        x, y = MARGIN + column * cell[0], HEAD + row * cell[1]
        frame = Image.fromarray(start.frame)
        sheet.paste(frame.resize((width, height), _filter(start.frame)), (x, y))
        place = x, y + height + UNDER
        _write_caption(ImageDraw.Draw(sheet), place, number, start, caption, width)
    return np.array(sheet)


def _draw_head(
    title: str, subtitle: str, columns: int, rows: int, cell: tuple[int, int]
) -> Image.Image:
    """Return a sheet with room for cells of a size (width, height), and the title above them."""
    texts = _font(LARGE).getlength(title), _font(PLAIN).getlength(subtitle)
    width = max(columns * cell[0] - GAP, *map(math.ceil, texts)) + 2 * MARGIN
    sheet = Image.new("RGB", (width, HEAD + rows * cell[1] - BELOW + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, INK, _font(LARGE))
    draw.text((MARGIN, MARGIN + LARGE + GAP), subtitle, FAINT, _font(PLAIN))
    return sheet


def _write_caption(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    number: int,
    start: Start,
    instruction: Sequence[str],
    width: int,
) -> None:
    """Write a start's number and frame, its episode, and the lines of its instruction."""
    x, y = place
    draw.text((x, y), f"#{number}", INK, _font(PLAIN))
    frame = f"frame {start.step} of {start.length}"
    draw.text((x + width, y + 2), frame, FAINT, _font(SMALL), anchor="ra")
    draw.text((x, y + LINE), _cut_front(start.id, width), FAINT, _font(SMALL))
    for line, text in enumerate(instruction):
        draw.text((x, y + (2 + line) * LINE), text, INK, _font(PLAIN))


def _count_columns(count: int, width: int, height: int) -> int:
    """Return how many cells of a size stand beside each other in a sheet of `SHAPE`."""
    return min(count, max(FEWEST_COLUMNS, round(math.sqrt(count * SHAPE * height / width))))


def _scaled(frame: NDArray[np.uint8]) -> tuple[int, int]:
    """Return the width and height of a frame on the sheet."""
    height, width = frame.shape[:2]
    scale = max(HEIGHT / height, WIDTH / width)
    return round(width * scale), round(height * scale)


def _filter(frame: NDArray[np.uint8]) -> Image.Resampling:
    """Return the filter that scales a frame; a small one's pixels stay square and sharp."""
    small = frame.shape[0] < HEIGHT
    return Image.Resampling.BOX if small else Image.Resampling.LANCZOS


def _wrap(text: str, width: int) -> list[str]:
    """Break a text into at most `INSTRUCTION_LINES` lines that fit in `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font(PLAIN).getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = lines[:INSTRUCTION_LINES]
    if len(lines) > len(kept):
        kept[-1] += f" {CUT}"
    return [_cut_end(line, width) for line in kept]


def _cut_end(text: str, width: int) -> str:
    """Return a text that fits in `width` pixels, without its end if need be."""
    if _font(PLAIN).getlength(text) <= width:
        return text
    kept = text.removesuffix(f" {CUT}")
    while kept and _font(PLAIN).getlength(kept + CUT) > width:
        kept = kept[:-1]
    return kept.rstrip() + CUT


def _cut_front(text: str, width: int) -> str:
    """Return a text that fits in `width` pixels, without its beginning if need be.

    The end of an episode's id tells it from the others.
    """
    if _font(SMALL).getlength(text) <= width:
        return text
    while text and _font(SMALL).getlength(CUT + text) > width:
        text = text[1:]
    return CUT + text


@cache
def _font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    return ImageFont.load_default(size=size)
