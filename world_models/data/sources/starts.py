"""The source of start files: each start is a short episode; see `starts.files`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.episode_files import refuse_fields
from v2w_gym.world_models.data.starts.files import StartFile, is_start_file, load_starts

recognises = is_start_file


@dataclass(frozen=True)
class StartsSource:
    """A `Source` of the starts in one file, which is read when it is first needed."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def files(self) -> tuple[Path, ...]:
        """The file alone."""
        return (self.path,)

    def __len__(self) -> int:
        """Return the number of starts."""
        return len(self._file.starts)

    def ids(self) -> Sequence[str]:
        """Return the ids of the recorded episodes."""
        return [start.id for start in self._file.starts]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield starts as episodes; see `Source.read`."""
        for each in self._file.starts[start:stop]:
            yield Episode(
                each.id,
                each.frames,
                None if np.isnan(each.actions).all() else each.actions,
                instruction=each.instruction,
                camera=self._file.camera,
                robot=self._file.robot,
                task=each.task,
            )

    @cached_property
    def _file(self) -> StartFile:
        stat = self.path.stat()
        return _load(self.path, (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size))


@lru_cache(maxsize=2)
def _load(path: Path, stamp: tuple[int, ...]) -> StartFile:
    """Read a start file once for all its starts; `stamp` makes a changed file be read again."""
    return load_starts(path)


def open_starts(path: Path, wanted: Wanted) -> StartsSource:
    """Open a start file.

    Raises:
        ValueError: A split, or fields or a camera, which a start file does not have.
    """
    refuse_fields(wanted, path)
    if wanted.split:
        raise ValueError(
            f"expected no split of the start file {path}, found {wanted.split!r}; leave it out"
        )
    return StartsSource(path)
