"""Where action values lie in a data set: `action`, `action[6]` or `action[0:3]`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

ActionFields: TypeAlias = tuple[tuple[str, int], ...]
"""Name and size of each group of action values, in order."""

_EXPRESSION = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d+)(:(?P<stop>\d+))?\])?")


@dataclass(frozen=True)
class Expression:
    """A field of a data set, or a part of its values.

    Attributes:
        name: Name of the field.
        start: Index of the first value.
        stop: Index after the last value; None for all values.
    """

    name: str
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        """Return the expression as it is written."""
        return self.name if self.stop is None else f"{self.name}[{self.start}:{self.stop}]"

    def take(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return this part of the field's values, (T, n).

        Args:
            values: (T, A), or (T,) if the field is one number.

        Raises:
            ValueError: Text, more axes, or fewer values than the part needs.
        """
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2):
            raise ValueError(
                f"expected numbers, (T,) or (T, A), in {self.name}, found {values.dtype} of shape "
                f"{values.shape}"
            )
        rows = values[:, None] if values.ndim == 1 else values
        if self.stop is not None and self.stop > rows.shape[1]:
            raise ValueError(f"expected {self} within {self.name}, found {rows.shape[1]} values")
        with np.errstate(over="ignore"):
            return rows[:, self.start : self.stop].astype(np.float32)


def parse_expression(text: str) -> Expression:
    """Return what `text` says: `action`, `action[6]` or `action[0:3]`.

    Raises:
        ValueError: Another text, or a part without values.
    """
    match = _EXPRESSION.fullmatch(text)
    if match is None:
        raise ValueError(
            "expected a field of the data set or a part of one, such as action[0:3], found "
            f"{text!r}"
        )
    if match["start"] is None:
        return Expression(match["name"])
    start = int(match["start"])
    stop = start + 1 if match["stop"] is None else int(match["stop"])
    if stop <= start:
        raise ValueError(f"expected a part with at least one value, found {text!r}")
    return Expression(match["name"], start, stop)


def read_actions(
    actions: Mapping[str, str], values_of: Callable[[str], NDArray[Any]]
) -> tuple[NDArray[np.float32], ActionFields]:
    """Return the actions that `SourceFields.actions` describes, (T, A), and their fields.

    Args:
        actions: A robot's action field -> expression; at least one.
        values_of: Function from the name of a data set's field to its values, (T, A) or (T,).

    Raises:
        ValueError: As for `parse_expression` and `Expression.take`.
    """
    found = {name: parse_expression(text) for name, text in actions.items()}
    parts = [each.take(values_of(each.name)) for each in found.values()]
    sizes = tuple((name, part.shape[1]) for name, part in zip(found, parts, strict=True))
    return np.concatenate(parts, axis=1), sizes
