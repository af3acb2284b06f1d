"""Order of training clips: each is a function of the episodes' lengths, a seed and its number.

No clip depends on earlier ones. So a training resumes at any step, and any number of processes can
load its batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

ORDER, START, CLIP, VALIDATION = range(4)
"""Keys of random streams: of an epoch's order, a clip's start, its changes, and validation."""


@dataclass(frozen=True)
class ClipPlace:
    """The place of a clip in a data set.

    Attributes:
        episode: Index of its episode.
        start: Index of its first frame in the episode.
        key: Key of the clip's own random stream, which no other clip of a training has.
    """

    episode: int
    start: int
    key: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        """Return the clip's own random stream, from its start."""
        return np.random.default_rng(self.key)


class TrainingOrder:
    """An endless order of clips of T frames, epoch after epoch.

    Each epoch visits every episode of at least T frames once, in its own random order, and draws a
    start uniformly. A batch may end one epoch and begin the next.

    Source: Vid2World's released data sets. Where an episode is too short, their code takes the next
    one, which then counts twice; here short episodes are left out.
    """

    def __init__(self, lengths: NDArray[np.int64], clip_frames: int, seed: int) -> None:
        """Keep the episodes that are long enough.

        Args:
            lengths: (E,) frames of each episode.
            clip_frames: Frames of a clip (T).
            seed: Seed of the order.

        Raises:
            ValueError: No episode has as many frames.
        """
        self._lengths, self._clip_frames, self._seed = lengths, clip_frames, seed
        self._episodes = long_enough(lengths, clip_frames)
        self._epoch = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        """Return the number of clips in an epoch."""
        return len(self._episodes)

    def place(self, number: int) -> ClipPlace:
        """Return the place of a clip by its number in the training, from 0."""
        epoch, turn = divmod(number, len(self))
        episode = int(self._epoch(epoch)[turn])
        rng = np.random.default_rng([self._seed, START, epoch, turn])
        starts = int(self._lengths[episode]) - self._clip_frames + 1
        key = (self._seed, CLIP, epoch, turn)
        return ClipPlace(episode, int(rng.integers(starts)), key)

    def batch(self, step: int, size: int, rank: int = 0, ranks: int = 1) -> tuple[ClipPlace, ...]:
        """Return the share of one of several processes of a training step's batch.

        The shares of all ranks, one after another, are the batch of a single process.

        Args:
            step: Training step, from 0.
            size: Clips of the whole batch, in all processes together.
            rank: Number of the process, from 0.
            ranks: Number of processes.

        Raises:
            ValueError: A batch that cannot be divided equally.
        """
        if size % ranks:
            raise ValueError(
                f"expected a batch that {ranks} processes can share equally, found {size} clips; "
                f"take {size - size % ranks or ranks}"
            )
        share = size // ranks
        first = step * size + rank * share
        return tuple(self.place(number) for number in range(first, first + share))

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, ORDER, epoch]).permutation(self._episodes)


def validation_places(
    lengths: NDArray[np.int64], ids: Sequence[str], clip_frames: int, count: int, seed: int = 0
) -> tuple[ClipPlace, ...]:
    """Return fixed clips to validate on, at most one of an episode, in the order of the episodes.

    A start depends on the seed and the episode's name alone. Vid2World's released code seeds it
    with Python's hash of the name, which differs in every process.

    Args:
        lengths: (E,) frames of each episode.
        ids: Names of the episodes.
        clip_frames: Frames of a clip (T).
        count: Number of clips; all episodes that are long enough if there are fewer.
        seed: Seed of the choice.

    Raises:
        ValueError: No episode has as many frames.
    """
    episodes = long_enough(lengths, clip_frames)
    rng = np.random.default_rng([seed, VALIDATION])
    chosen = np.sort(rng.permutation(episodes)[:count])
    places = []
    for episode in map(int, chosen):
        name = int.from_bytes(sha256(ids[episode].encode()).digest()[:8], "big")
        key = (seed, VALIDATION, name)
        starts = int(lengths[episode]) - clip_frames + 1
        start = int(np.random.default_rng(key).integers(starts))
        places.append(ClipPlace(episode, start, key))
    return tuple(places)


def long_enough(lengths: NDArray[np.int64], clip_frames: int) -> NDArray[np.int64]:
    """Return the indices of the episodes with at least `clip_frames` frames.

    Raises:
        ValueError: No such episode.
    """
    found = np.flatnonzero(lengths >= clip_frames)
    if not len(found):
        raise ValueError(
            f"expected episodes of at least {clip_frames} frames, found {len(lengths)} of at most "
            f"{max(lengths, default=0)}; lower clip_frames"
        )
    return found
