"""Choice of starts: which episodes of a source, and which frame of each; nothing is decoded."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from v2w_gym.configs.names import lookup
from v2w_gym.world_models.data.starts.places import OPEN, Facts, Place
from v2w_gym.world_models.data.starts.published import PUBLISHED

SHOWN = 5
"""Most instructions that a message names."""


@dataclass(frozen=True)
class Filters:
    """The episodes that may be chosen.

    Attributes:
        instruction: What must occur in the instruction; None for any.
        min_frames: Fewest frames.
    """

    instruction: re.Pattern[str] | None = None
    min_frames: int = 1

    def accept(self, episode: Facts) -> bool:
        """Whether an episode may be chosen."""
        if episode.length < self.min_frames:
            return False
        return self.instruction is None or bool(self.instruction.search(episode.instruction or ""))

    def __str__(self) -> str:
        """Say which episodes are accepted, for messages."""
        parts = ["episodes"]
        if self.min_frames > 1:
            parts.append(f"of at least {self.min_frames} frames")
        if self.instruction is not None:
            parts.append(f"whose instruction matches {self.instruction.pattern!r}")
        return " ".join(parts)


def to_pattern(text: str) -> re.Pattern[str]:
    """Return a regular expression.

    Raises:
        ValueError: It is none.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"expected instruction to be a regular expression, found {text!r}: {error}"
        ) from error


def check_some(accepted: Sequence[Facts], seen: Sequence[Facts], filters: Filters) -> None:
    """Check that the filters accept an episode.

    Raises:
        ValueError: They accept none; the message says which instructions and lengths there are.
    """
    if accepted:
        return
    shortest, longest = (pick(episode.length for episode in seen) for pick in (min, max))
    lengths = f"{shortest} to {longest}" if shortest < longest else f"{longest}"
    raise ValueError(
        f"expected {filters}, found none among {len(seen):,} of {lengths} frames "
        f"{_describe([episode.instruction for episode in seen])}"
    )


def draw_order(ids: Sequence[str], seed: int) -> list[str]:
    """Return ids in a random order, which depends on the seed and each id alone.

    So a draw of n is the beginning of a draw of n + 1, on every machine, and the order in the
    source does not matter.
    """
    return sorted(ids, key=lambda name: (_digest(seed, name), name))


def choose_places(
    episodes: Sequence[Facts], choice: str, n: int | None, seed: int, robot: str
) -> list[Place]:
    """Choose n of the episodes that may be chosen, and perhaps a frame of each.

    Args:
        episodes: The episodes, in the order of the source.
        choice: Key in `CHOICES`.
        n: How many; None for all.
        seed: Seed of a draw.
        robot: Name of the `RobotSpec`, which says what is published.

    Raises:
        ValueError: An unknown choice, fewer than n episodes, or two of one id.
    """
    name, times = Counter(episode.id for episode in episodes).most_common(1)[0]
    if times > 1:
        raise ValueError(
            f"expected every episode to have its own id, found {name!r} {times} times; ids of the "
            "data set's own are named by fields=FILE.yaml"
        )
    places = lookup(CHOICES, choice, "choose")(episodes, seed, robot)
    if n is not None and n > len(places):
        raise ValueError(
            f"expected n of at most {len(places):,}, since that many episodes can be chosen, "
            f"found n={n:,}"
        )
    return places[:n]


def choose_step(place: Place, at: int | float | str | None, seed: int, context: int) -> int:
    """Return the number of the frame with which a rollout begins.

    Args:
        place: The episode, and perhaps the frame.
        at: A number, from the end if negative; a share of the episode, such as 0.5; "random"; None
            for the first one that has enough frames before it.
        seed: Seed of "random"; the frame depends on it and the episode's id alone.
        context: Frames that a rollout begins with, this one included (K).

    Raises:
        ValueError: The episode has no such frame, or fewer than K - 1 frames before it.
    """
    episode, first = place.episode, context - 1
    if first >= episode.length:
        raise ValueError(
            f"expected at least {context} frames in every episode (context_frames={context}), "
            f"found {episode.length} in {episode.id!r}; min_frames={context} leaves shorter "
            "episodes out"
        )
    if place.step != OPEN and at is not None:
        raise ValueError(
            f"expected no at, since the published starts name the frame of {episode.id!r}, found "
            f"at={at}; leave at out"
        )
    step = place.step if place.step != OPEN else _to_step(at, episode, seed, first)
    if first <= step < episode.length:
        return step
    raise ValueError(
        f"expected a frame from {first} to {episode.length - 1} of episode {episode.id!r} "
        f"({episode.length} frames, context_frames={context}), found at={at} (frame {step}); "
        "choose another at, or leave shorter episodes out with min_frames"
    )


def _to_step(at: int | float | str | None, episode: Facts, seed: int, first: int) -> int:
    if at is None:
        return first
    if isinstance(at, str):
        return first + _draw(seed, f"{episode.id}/frame", episode.length - first)
    if isinstance(at, float):
        return math.floor(at * (episode.length - 1))
    return at if at >= 0 else episode.length + at


def _in_order(episodes: Sequence[Facts], seed: int, robot: str) -> list[Place]:
    return [Place(episode) for episode in episodes]


def _at_random(episodes: Sequence[Facts], seed: int, robot: str) -> list[Place]:
    by_id = {episode.id: episode for episode in episodes}
    return [Place(by_id[name]) for name in draw_order(list(by_id), seed)]


def _as_published(episodes: Sequence[Facts], seed: int, robot: str) -> list[Place]:
    return lookup(PUBLISHED, robot, "robot for choose=published")(episodes)


CHOICES: Mapping[str, Callable[[Sequence[Facts], int, str], list[Place]]] = {
    "first": _in_order,
    "random": _at_random,
    "published": _as_published,
}
"""Name of a choice -> all episodes in the order in which they are taken."""


def _digest(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def _draw(seed: int, text: str, count: int) -> int:
    """Draw a number below `count` that is the same on every machine."""
    return int.from_bytes(_digest(seed, text), "big") % count


def _describe(instructions: Iterable[str | None]) -> str:
    """Say which instructions there are, the most frequent first."""
    counted = Counter(text for text in instructions if text).most_common()
    if not counted:
        return "without instructions"
    shown = ", ".join(f"{text!r} ({times})" for text, times in counted[:SHOWN])
    others = len(counted) - SHOWN
    return f"with the instructions {shown}{f' and {others:,} others' * (others > 0)}"
