"""Names: rules for allowed ones, and a look-up whose error suggests the nearest known name."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")


def lookup(table: Mapping[str, Value], name: str, what: str) -> Value:
    """Return `table[name]`.

    Raises:
        ValueError: Unknown name; the message lists the known ones and suggests the nearest.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    raise ValueError(
        f"expected {what} to be one of {sorted(table)}, found {name!r}{hint(name, table)}"
    )


def hint(name: str, known: Mapping[str, object] | list[str]) -> str:
    """Return "; did you mean ...?" for the nearest known name, or nothing."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


LONGEST = 100
"""Most characters of a name; leaves room for a file's ending."""


def check_name(name: str) -> str:
    """Return `name` if a table can hold it.

    Letters of any language, spaces inside, commas, quotes and `#` are allowed.

    Raises:
        ValueError: An empty or long name, a space at either end, or a character that is not
            visible, such as a line end, NUL or a right-to-left mark.
    """
    if not 0 < len(name) <= LONGEST or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"expected a name of 1 to {LONGEST} visible characters without a space at its ends, "
            f"found {name[: LONGEST + 1]!r}"
        )
    return name


def check_file_name(name: str) -> str:
    """Return `name` if a file can have it.

    Raises:
        ValueError: As for `check_name`, or a name with a folder or a leading dot.
    """
    check_name(name)
    if name.startswith(".") or "/" in name or "\\" in name:
        raise ValueError(
            f"expected a file name without / or \\ and without a leading dot, found {name!r}"
        )
    return name
