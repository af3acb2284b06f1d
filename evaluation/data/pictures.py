"""Pictures of recorded episodes: a strip of frames, and a film with the actions beside them."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.configs.text import printable
from v2w_gym.evaluation.data.film import draw_film
from v2w_gym.evaluation.data.reading import EpisodeFacts, choose_episodes
from v2w_gym.evaluation.data.summary import Summary, acting_episodes, find_robot
from v2w_gym.evaluation.records.strips import draw_grid
from v2w_gym.evaluation.records.video import write_film
from v2w_gym.world_models.files import replacing

MOMENTS = ("start", "1/4", "middle", "3/4", "end")
LETTERS = 30
"""Most characters in a line beside a row of frames."""
LINES = 5
"""Most lines beside a row of frames."""
WIDEST = 3
"""Frames wider than this many times their height get white bars in the strip."""
SLOWEST, FASTEST = 1.0, 60.0
"""Frames per second of a film."""
USUAL_RATE = 5.0
"""Frames per second of a film of data that does not say its rate."""


def draw_pictures(
    folder: Path, facts: Sequence[EpisodeFacts], summary: Summary, most: int
) -> list[Path]:
    """Write the strip and the film of at most `most` episodes, evenly spread.

    Returns:
        The paths of both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [facts[number] for number in choose_episodes(len(facts), most)]
    strip, film = folder / "strip.png", folder / "film.mp4"
    with replacing(strip) as partial:
        Image.fromarray(draw_strip(chosen, summary)).save(partial, format="png")
    rate = next((e.episode.rate for e in chosen if e.episode.rate), USUAL_RATE)
    robot = find_robot(facts, summary.robot)
    acting = {each.number for each in acting_episodes(facts)[0]}
    speed = min(max(rate, SLOWEST), FASTEST)
    write_film(film, draw_film(chosen, acting, robot), speed)
    return [strip, film]


def draw_strip(facts: Sequence[EpisodeFacts], summary: Summary) -> NDArray[np.uint8]:
    """Draw one row for each episode: frames from its start to its end."""
    rows, labels = [], []
    for each in facts:
        length = len(each.episode)
        places = np.linspace(0, length - 1, len(MOMENTS)).round().astype(np.int64)
        rows.append(_not_too_wide(each.episode.frames[places]))
        labels.append(_label(each))
    title = f"{printable(summary.name)}: {len(facts)} of {summary.total:,} episodes"
    return draw_grid(rows, labels, MOMENTS, title)


def _not_too_wide(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    missing = max(0, width // WIDEST - height)
    above = missing // 2
    return np.pad(frames, ((0, 0), (above, missing - above), (0, 0), (0, 0)), constant_values=255)


def _label(facts: EpisodeFacts) -> str:
    """Return the id, the instruction and the length of an episode in short lines."""
    episode = facts.episode
    caption = f'"{printable(episode.instruction)}"' if episode.instruction else "no instruction"
    lines = textwrap.wrap(caption, LETTERS)
    if len(lines) > LINES - 2:
        lines = [*lines[: LINES - 3], lines[LINES - 3][: LETTERS - 3] + "..."]
    return "\n".join([_cut_front(printable(episode.id)), *lines, f"{len(episode)} frames"])


def _cut_front(name: str) -> str:
    """Return the end of a long id, which tells it from the others."""
    return name if len(name) <= LETTERS else "..." + name[3 - LETTERS :]
