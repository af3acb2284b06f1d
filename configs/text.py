"""Text that people write: what of a stranger's may be printed, and what `~` in a path means."""

import re
import reprlib
from os import PathLike, fspath
from pathlib import Path

LIMIT = 500
"""Characters of a stranger's text that one line of ours may hold."""

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # window titles, links
)
"""ANSI sequences, by which a terminal would obey what it should only show."""


def printable(text: str, limit: int = LIMIT) -> str:
    """Return text as one line without control characters; longer text is cut and ends in "...".

    Line breaks and tabs become spaces. Escape sequences and characters that show nothing, such as
    NUL and right-to-left marks, are left out.
    """
    shown = "".join(
        character if character.isprintable() else " " * character.isspace()
        for character in ESCAPES.sub("", text[: 2 * limit])
    )
    whole = len(text) <= 2 * limit and len(shown) <= limit
    return shown if whole else f"{shown[:limit]}..."


def brief(value: object, limit: int = LIMIT) -> str:
    """Return what `repr` shows of a value, in one printable line; large and deep ones are cut."""
    shorter = reprlib.Repr()
    shorter.maxstring = shorter.maxother = limit
    return printable(shorter.repr(value), limit)


def printable_lines(text: str, most: int = 100) -> str:
    """Return the last lines of a text, such as a traceback, each as `printable` shows it."""
    lines = text[-most * LIMIT :].splitlines()
    return "\n".join(printable(line) for line in lines[-most:])


def expand(path: str | PathLike[str]) -> str:
    """Return a path, or a word that may be one, with the home folder in place of a leading `~`.

    Raises:
        ValueError: `~name` of a user that does not exist.
    """
    text = fspath(path)
    if not text.startswith("~"):
        return text
    try:
        return str(Path(text).expanduser())
    except RuntimeError as error:
        raise ValueError(
            f"expected the home folder of a user, found {text!r} and no such user; write "
            f"./{text} for a file of that name"
        ) from error


def to_path(path: str | PathLike[str]) -> Path:
    """Return a path that a caller wrote, `~` expanded; errors as for `expand`."""
    return Path(expand(path))
