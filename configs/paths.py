"""What `~` stands for, wherever a path may be written."""

from os import PathLike, fspath
from pathlib import Path


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
