"""What a summary keeps of each recorded episode, read in one pass; frames are not kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.configs.text import printable
from v2w_gym.evaluation.data.motion import find_motion
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Source

FRAMES_AT_ONCE = 64
"""Frames that are decoded together."""
BLANK = 4
"""Standard deviation, in grey levels, below which a frame shows nothing."""


@dataclass(frozen=True)
class EpisodeFacts:
    """What was found in one episode.

    Attributes:
        number: Its number in the source.
        episode: The episode; its frames are decoded on demand.
        size: Height and width of its frames, in pixels.
        motion: (T - 1, D) motion from each frame to the next; see `find_motion`.
        stuck: (T - 1,) whether a frame equals the one before it in every pixel.
        blank: (T,) whether a frame has one colour, such as black.
    """

    number: int
    episode: Episode
    size: tuple[int, int]
    motion: NDArray[np.float32]
    stuck: NDArray[np.bool_]
    blank: NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """The episodes that were read, and those that could not be.

    Attributes:
        total: Number of episodes in the source.
        chosen: Number of episodes to read, evenly spread.
        facts: The episodes that could be read.
        failed: Number of an episode in the source -> why it cannot be read.
    """

    total: int
    chosen: int
    facts: list[EpisodeFacts] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)


def choose_episodes(total: int, most: int) -> list[int]:
    """Return the numbers of at most `most` of `total` episodes, evenly spread."""
    if total <= most:
        return list(range(total))
    return [int(number) for number in np.linspace(0, total - 1, most).round()]


def read_facts(source: Source, most: int) -> Reading:
    """Read at most `most` episodes, evenly spread; a damaged episode does not end it."""
    numbers = choose_episodes(len(source), most)
    reading = Reading(len(source), len(numbers))
    bar = tqdm(total=len(numbers), unit="episode", disable=None)
    for first, end in _find_runs(numbers):
        for number, found in _read_run(source, first, end):
            if isinstance(found, str):
                reading.failed[number] = found
            else:
                reading.facts.append(found)
            bar.update()
    bar.close()
    return reading


def _read_run(source: Source, first: int, end: int) -> Iterator[tuple[int, EpisodeFacts | str]]:
    """Yield consecutive episodes, or why each cannot be read."""
    number = first
    while number < end:
        try:
            for episode in source.read(number, end):
                number += 1
                yield number - 1, _look_or_say_why(number - 1, episode)
            return
        except (ValueError, OSError) as error:
            yield number, printable(str(error))
            number += 1


def _look_or_say_why(number: int, episode: Episode) -> EpisodeFacts | str:
    try:
        return look_at(number, episode)
    except (ValueError, OSError) as error:
        return printable(str(error))


def look_at(number: int, episode: Episode) -> EpisodeFacts:
    """Decode every frame of an episode once.

    Raises:
        ValueError: No frame, or a damaged one.
    """
    if not len(episode):
        raise ValueError(f"expected frames in {episode.id}, found none")
    parts, motion, stuck, blank = _parts(episode), [], [], []
    for frames in parts:
        grey = frames[..., 1]
        blank.append(grey.std(axis=(1, 2), dtype=np.float32) < BLANK)
        motion.append(find_motion(frames))
        stuck.append((frames[1:] == frames[:-1]).all(axis=(1, 2, 3)))
        size = frames.shape[1], frames.shape[2]
    shown = np.concatenate([blank[0], *(part[1:] for part in blank[1:])])
    return EpisodeFacts(number, episode, size, np.concatenate(motion), np.concatenate(stuck), shown)


def _parts(episode: Episode) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames in order; each part begins with the last frame of the part before."""
    for start in range(0, max(len(episode) - 1, 1), FRAMES_AT_ONCE):
        yield episode.frames[start : start + FRAMES_AT_ONCE + 1]


def _find_runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last number plus one of each run of consecutive numbers."""
    if not numbers:
        return []
    ends = [i for i, n in enumerate(numbers) if i + 1 == len(numbers) or numbers[i + 1] != n + 1]
    firsts = [0, *(end + 1 for end in ends[:-1])]
    return [(numbers[a], numbers[b] + 1) for a, b in zip(firsts, ends, strict=True)]
