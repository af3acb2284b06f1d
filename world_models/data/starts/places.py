"""Places where rollouts begin: frames of episodes, of which nothing is decoded yet."""

from dataclasses import dataclass

OPEN = -1
"""Number of a frame that is yet to be chosen."""


@dataclass(frozen=True)
class Facts:
    """What is known of an episode without its frames.

    Attributes:
        number: Its number in the source.
        id: Its name, unique in the source.
        length: Number of its frames.
        instruction: Its instruction; None if the source has none.
    """

    number: int
    id: str
    length: int
    instruction: str | None = None


@dataclass(frozen=True)
class Place:
    """A frame of an episode, with which a rollout begins.

    Attributes:
        episode: The episode.
        step: Number of the frame, from 0; -1 where the choice of episodes leaves it open.
    """

    episode: Facts
    step: int = OPEN
