"""What every reader of recorded data offers: episodes in a fixed order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from v2w_gym.configs.sources import SourceFields
from v2w_gym.world_models.data.episode import Episode


class Source(Protocol):
    """The episodes of one data set, in a fixed order."""

    @property
    def name(self) -> str:
        """Name for messages and manifests, such as "fractal20220817_data 0.1.0, train"."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the episodes, in order; they identify the data."""

    def __len__(self) -> int:
        """Return the number of episodes."""

    def ids(self) -> Sequence[str]:
        """Return the `id` of every episode, in order; pictures are not read."""

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield the episodes from number `start` up to `stop`; frames are decoded on demand.

        Raises:
            ValueError: An episode is damaged. `read` can then begin again after it.
        """


@dataclass(frozen=True)
class Wanted:
    """What to read from a data set.

    Attributes:
        split: Name of a split, or a part of one; "" for the format's default.
        fields: Where the data set keeps what an episode needs; None for what is known of it.
        camera: Name of the camera; "" for that of `fields`, or the only one.
    """

    split: str = ""
    fields: SourceFields | None = None
    camera: str = ""
