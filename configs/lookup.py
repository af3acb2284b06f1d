"""Look-up by name, with an error that says what was meant."""

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
