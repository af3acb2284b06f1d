"""Episodes that are one file, or one folder, each."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from v2w_gym.configs.names import lookup
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted

log = logging.getLogger(__name__)

ALL = "all"
"""Name of the split with every episode."""
_PART = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")


Load: TypeAlias = Callable[[Path, str], Episode]
"""Opens the episode in a file, or a folder, and gives it an id."""


@dataclass(frozen=True)
class EpisodeFiles:
    """A `Source` of one file, or one folder, an episode.

    Attributes:
        name: Name for messages.
        root: The folder below which the episodes lie; ids are paths below it, without an ending.
        files: Paths of the episodes, in order.
        load: Opens an episode.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    load: Load

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.files)

    def ids(self) -> tuple[str, ...]:
        """Return the id of every episode; see `Source.ids`."""
        return tuple(map(self._id_of, self.files))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield episodes; see `Source.read`."""
        for path in self.files[start:stop]:
            yield self.load(path, self._id_of(path))

    def _id_of(self, path: Path) -> str:
        ending = path.suffix if path.is_file() else ""
        return path.relative_to(self.root).as_posix().removesuffix(ending)


def open_files(
    path: Path,
    files: Sequence[Path],
    wanted: Wanted,
    load: Load,
    splits: Mapping[str, Sequence[Path]] | None = None,
) -> EpisodeFiles:
    """Return the wanted ones of the episodes at `path`.

    Args:
        path: The file or folder that was named.
        files: Paths of all episodes, in order.
        wanted: What to read; a split is "all" or a key of `splits`, or a part, such as "all[:9]".
        load: Opens an episode.
        splits: Name of a split -> paths of its episodes.

    Raises:
        ValueError: Unknown split, or fields or a camera, which such files do not have.
    """
    refuse_fields(wanted, path)
    part = _PART.fullmatch(wanted.split or ALL)
    if part is None:
        raise ValueError(f"expected a split such as all[:9] of {path}, found {wanted.split!r}")
    chosen = lookup({ALL: files, **(splits or {})}, part["name"], f"the split of {path}")
    start, stop = (int(part[end]) if part[end] else None for end in ("start", "stop"))
    name = f"{path.name}, {wanted.split}" if wanted.split else path.name
    root = path.parent if files == [path] else path
    return EpisodeFiles(name, root, tuple(chosen[start:stop]), load)


def refuse_fields(wanted: Wanted, path: Path) -> None:
    """Check that nothing is asked for which files of a fixed layout do not have.

    Raises:
        ValueError: Fields or a camera.
    """
    for what, found in (("fields", wanted.fields), ("camera", wanted.camera)):
        if found:
            raise ValueError(
                f"expected no {what} for {path}, whose layout is fixed, found {found!r}; leave "
                f"{what} out"
            )


def find_files(folder: Path, ending: str, belongs: Callable[[Path], bool], what: str) -> list[Path]:
    """Return the files below a folder that belong to a data set, sorted; a warning names others.

    Args:
        folder: The folder.
        ending: Ending of the files to look at.
        belongs: Whether a file is one of them.
        what: Name of them, for the warning.
    """
    files = sorted(path for path in folder.rglob(f"*{ending}") if path.is_file())
    found = [path for path in files if belongs(path)]
    if found and (others := sorted(set(files) - set(found))):
        log.warning(
            "%d %s files below %s are not %s and are left out, such as %s",
            *(len(others), ending, folder, what, others[0].name),
        )
    return found


def kinds_in(folder: Path) -> str:
    """Return the number of files of each ending below a folder, for messages."""
    endings = Counter(path.suffix or path.name for path in folder.rglob("*") if path.is_file())
    named = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(3))
    return named or "none"
