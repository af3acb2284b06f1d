"""Text from outside: printing it safely, and expanding `~` in paths."""

import re
import reprlib
from os import PathLike, fspath
from pathlib import Path

LIMIT = 500
"""Most characters of outside text in one line."""

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor moves
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # window titles, links
)
"""ANSI escape sequences, which a terminal would execute and not show."""


def printable(text: str, limit: int = LIMIT) -> str:
    """Return text as one line without control characters; long text is cut and ends in "...".

    Line breaks and tabs become spaces. Escape sequences and invisible characters, such as NUL and
    right-to-left marks, are removed.
    """
    shown = "".join(
        character if character.isprintable() else " " * character.isspace()
        for character in ESCAPES.sub("", text[: 2 * limit])
    )
    whole = len(text) <= 2 * limit and len(shown) <= limit
    return shown if whole else f"{shown[:limit]}..."


def brief(value: object, limit: int = LIMIT) -> str:
    """Return the `repr` of a value in one printable line; a large or deep value is cut."""
    shorter = reprlib.Repr()
    shorter.maxstring = shorter.maxother = limit
    return printable(shorter.repr(value), limit)


def printable_lines(text: str, most: int = 100) -> str:
    """Return the last lines of a text, such as a traceback, each as `printable` shows it."""
    lines = text[-most * LIMIT :].splitlines()
    return "\n".join(printable(line) for line in lines[-most:])


def expand(path: str | PathLike[str]) -> str:
    """Return a path, or a name in its place, with the home folder for a leading `~`.

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
    """Return `path` with `~` expanded; errors as for `expand`."""
    return Path(expand(path))
