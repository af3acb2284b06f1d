"""List the files of a data set: fast where a folder holds a million of them."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path


def files_below(folder: Path, *endings: str) -> Iterator[Path]:
    """Yield the files below a folder that have one of these endings, in no particular order.

    Hidden files are left out. Links to folders are not followed, except `folder` itself.

    Args:
        folder: The folder.
        endings: Endings in lower case, or whole names; none for all files.
    """
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names if _counts(name, endings))


def files_in(folder: Path, *endings: str) -> list[Path]:
    """Return such files in a folder itself, in the order of their numbers; see `files_below`."""
    return in_natural_order(path for path in folder.iterdir() if _counts(path.name, endings))


def in_natural_order(paths: Iterable[Path]) -> list[Path]:
    """Sort paths with numbers by their value: frame_2 before frame_10."""
    return sorted(paths, key=lambda path: (_numbers(path.as_posix()), path.as_posix()))


def _counts(name: str, endings: tuple[str, ...]) -> bool:
    return not name.startswith(".") and (not endings or name.lower().endswith(endings))


def _numbers(text: str) -> list[str | int]:
    """Split a text at its numbers; every second part is one."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", text))]
