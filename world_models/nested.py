"""Tuples of tensors, of tuples of tensors, and so on: taken apart and put together again."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from torch import Tensor

Nested: TypeAlias = tuple[Any, ...]
"""A tuple of tensors, or of such tuples; named tuples keep their names."""


def leaves(nested: Nested) -> Iterator[Tensor]:
    """Yield the tensors of a nested tuple, from left to right."""
    for part in nested:
        if isinstance(part, Tensor):
            yield part
        else:
            yield from leaves(part)


def map_nested(function: Callable[..., Tensor], *nested: Any) -> Any:
    """Apply `function` to the tensors that nested tuples of one structure have in one place."""
    if isinstance(nested[0], Tensor):
        return function(*nested)
    make = getattr(nested[0], "_make", tuple)  # a named tuple stays one
    return make(map_nested(function, *parts) for parts in zip(*nested, strict=True))


def refill(nested: Nested, tensors: Iterator[Tensor]) -> Any:
    """Return a nested tuple of the same structure with the next tensors in it."""
    return map_nested(lambda _: next(tensors), nested)
