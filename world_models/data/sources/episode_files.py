"""Episodes that are one file, or one folder, each."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from v2w_gym.configs.names import lookup
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.listing import files_below

log = logging.getLogger(__name__)

ALL = "all"
"""Name of the split with every episode."""
_PART = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d*):(?P<stop>\d*)\])?")


Load: TypeAlias = Callable[[Path, str], Episode]
"""Opens the episode at a path, and gives it an id."""
Parts: TypeAlias = Callable[[Path], Iterable[Path]]
"""Path of an episode -> the files that hold it."""


@dataclass(frozen=True)
class EpisodeFiles:
    """A `Source` of one file, or one folder, an episode.

    Attributes:
        name: Name for messages.
        root: The folder below which the episodes lie; ids are paths below it, without an ending.
        paths: Paths of the episodes, in order.
        load: Opens an episode.
        parts: Lists the files of an episode.
    """

    name: str
    root: Path
    paths: tuple[Path, ...]
    load: Load
    parts: Parts

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all episodes; see `Source.files`."""
        return tuple(file for path in self.paths for file in self.parts(path))

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.paths)

    def ids(self) -> tuple[str, ...]:
        """Return the id of every episode; see `Source.ids`."""
        return tuple(map(self._id_of, self.paths))

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield episodes; see `Source.read`."""
        for path in self.paths[start:stop]:
            yield self.load(path, self._id_of(path))

    def _id_of(self, path: Path) -> str:
        below = Path(path.resolve().name) if path == self.root else path.relative_to(self.root)
        return below.as_posix().removesuffix(path.suffix if path.is_file() else "")


def itself(path: Path) -> tuple[Path]:
    """Return the only file of an episode; see `Parts`."""
    return (path,)


def open_files(
    path: Path,
    paths: Sequence[Path],
    wanted: Wanted,
    load: Load,
    parts: Parts = itself,
    splits: Mapping[str, Sequence[Path]] | None = None,
) -> EpisodeFiles:
    """Return the wanted ones of the episodes at `path`.

    Args:
        path: The file or folder that was named.
        paths: Paths of all episodes, in order.
        wanted: What to read; a split is "all" or a key of `splits`, or a part, such as "all[:9]".
        load: Opens an episode.
        parts: Lists the files of an episode.
        splits: Name of a split -> paths of its episodes.

    Raises:
        ValueError: Unknown or empty split.
    """
    part = parse_split(wanted.split, path)
    chosen = lookup({ALL: paths, **(splits or {})}, part[0], f"the split of {path}")[part[1]]
    if not chosen:
        raise ValueError(f"expected episodes in split {wanted.split!r} of {path}, found none")
    name = ", ".join(filter(None, [path.resolve().name, wanted.split]))
    return EpisodeFiles(name, path.parent if path.is_file() else path, tuple(chosen), load, parts)


def parse_split(text: str, path: Path) -> tuple[str, slice]:
    """Return the name of a split, and the part of it, as in "train[:9]"; "" is everything.

    Raises:
        ValueError: Another text.
    """
    part = _PART.fullmatch(text or ALL)
    if part is None:
        raise ValueError(f"expected a split such as all[:9] of {path}, found {text!r}")
    ends = (int(part[end]) if part[end] else None for end in ("start", "stop"))
    return part["name"], slice(*ends)


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
    files = sorted(files_below(folder, ending))
    found = [path for path in files if belongs(path)]
    if found and (others := sorted(set(files) - set(found))):
        log.warning(
            "%d %s files below %s are not %s and are left out, such as %s",
            *(len(others), ending, folder, what, others[0].name),
        )
    return found


def kinds_in(folder: Path) -> str:
    """Return the number of files of each ending below a folder, for messages."""
    endings = Counter(path.suffix or path.name for path in files_below(folder))
    named = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(3))
    return named or "none"
