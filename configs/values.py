"""Conversion of values to the types that a settings dataclass declares."""

import operator
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from math import inf, isfinite
from numbers import Integral
from os import PathLike, fspath
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    SupportsFloat,
    SupportsIndex,
    TypeGuard,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from v2w_gym.configs.names import hint
from v2w_gym.configs.rules import OneOf, Range, Rule, SomeOf
from v2w_gym.configs.text import brief


class Plain(str):
    """Text without quotes; its setting's type decides how to read it."""


class Settings:
    """A dataclass that converts and checks its values when it is made."""

    def __post_init__(self) -> None:
        """Convert every value to its declared type.

        Raises:
            ValueError: A value of another type, or one that its rule forbids.
        """
        for name, kind in types_of(type(self)).items():
            object.__setattr__(self, name, to_value(kind, getattr(self, name), name))


def to_settings(schema: type[Any], given: object, prefix: str = "") -> dict[str, Any]:
    """Return the settings in `given`, converted to the types that `schema` declares.

    Args:
        schema: A dataclass; its fields are the only keys there are.
        given: Values by name; those of a nested dataclass may be a mapping too.
        prefix: Prefix of the names in messages, such as "optimiser.".

    Raises:
        ValueError: An unknown key, a value of another type, or one that its rule forbids.
    """
    if not isinstance(given, Mapping):
        raise _refusal(prefix[:-1] or "settings", "settings by name", given)
    types, found = types_of(schema), {}
    for key, value in given.items():
        if key not in types:
            raise ValueError(
                f"unknown setting {prefix}{key}{hint(str(key), list(types))} "
                f"(there are: {', '.join(types)})"
            )
        nested, name = nested_schema(types[key]), f"{prefix}{key}"
        if nested is not None and isinstance(value, Mapping):
            found[str(key)] = to_settings(nested, value, f"{name}.")
        else:
            found[str(key)] = to_value(types[key], value, name)
    return found


def to_value(kind: Any, given: Any, name: str) -> Any:
    """Return `given`, converted to the type `kind`.

    Args:
        kind: A type as a field of a dataclass declares it; `Annotated` adds one rule.
        given: A value, or `Plain` text.
        name: The setting's name for messages.

    Raises:
        ValueError: A value of another type, or one that the rule forbids.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _to_ruled(args[0], args[1], given, name)
    if origin in (Union, UnionType):
        return _to_one_of(args, given, name)
    if origin is Literal:
        return _to_ruled(str, OneOf(args), given, name)
    if origin is dict:
        if not isinstance(given, Mapping):
            raise _refusal(name, "a mapping such as {a: 1}", given)
        return {
            to_value(args[0], key, name): to_value(args[1], value, f"{name}.{key}")
            for key, value in given.items()
        }
    if origin in (list, tuple):
        return origin(_to_entries(args, given, name))
    if kind in READERS:
        return READERS[kind](given, name)
    if not isinstance(given, kind):
        raise _refusal(name, "settings by name", given)
    return given


def is_whole_number(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def types_of(schema: type[Any]) -> Mapping[str, Any]:
    """Return the type of each setting, rules included."""
    types = get_type_hints(schema, include_extras=True)
    return {field.name: types[field.name] for field in fields(schema)}


def nested_schema(kind: Any) -> type[Any] | None:
    """Return the dataclass in the type of a setting; None if it has none."""
    parts = (kind, *get_args(kind))
    return next((part for part in parts if isinstance(part, type) and is_dataclass(part)), None)


def _refusal(name: str, expected: str, given: object) -> ValueError:
    found = "nothing" if given is None or _is_empty(given) else brief(given)
    return ValueError(f"cannot set {name}: expected {expected}, found {found}")


def _is_empty(given: object) -> bool:
    return isinstance(given, Plain) and not given


def _to_ruled(kind: Any, rule: Rule, given: Any, name: str) -> Any:
    if isinstance(rule, SomeOf):
        return to_settings(rule.schema, given, f"{name}.")
    value = to_value(kind, given, name)
    if isinstance(rule, Range):
        if broken := rule.broken_by(value):
            raise ValueError(f"expected {name} {broken}, found {brief(value)}")
        return value
    try:
        return rule(value)
    except ValueError as error:
        raise ValueError(f"cannot set {name}: {error}") from error


def _to_one_of(kinds: tuple[Any, ...], given: Any, name: str) -> Any:
    """Return `given` as the first type that accepts it without rules, then apply its rule."""
    if NoneType in kinds and (
        given is None or (isinstance(given, Plain) and NULL.fullmatch(given))
    ):
        return None
    *first, last = [kind for kind in kinds if kind is not NoneType]
    for kind in first:
        with suppress(ValueError):
            to_value(_without_rule(kind), given, name)
            last = kind
            break
    return to_value(last, given, name)


def _without_rule(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _to_entries(kinds: tuple[Any, ...], given: Any, name: str) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise _refusal(name, "a list such as [a, b]", given)
    if len(kinds) == 1 or kinds[1] is ...:
        kinds = kinds[:1] * len(given)
    if len(given) != len(kinds):
        raise _refusal(name, f"a list of {len(kinds)}", given)
    return [
        to_value(kind, entry, f"{name}[{place}]")
        for place, (kind, entry) in enumerate(zip(kinds, given, strict=True))
    ]


# Plain text follows YAML 1.2's core schema: 010 is ten, and yes and 1_000 are text.
NULL = re.compile(r"null|Null|NULL|~|")
SWITCH = re.compile(r"(true|True|TRUE)|false|False|FALSE")
WHOLE = re.compile(r"[-+]?[0-9]{1,40}")
NUMBER = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,4})?")


def _to_text(given: Any, name: str) -> str:
    if not isinstance(given, str | PathLike) or _is_empty(given):
        raise _refusal(name, "text", given)
    text = str(fspath(given))
    if "\0" in text or text == "???" or "${" in text:
        raise _refusal(
            name, "the value itself, without NUL, ??? or ${...}, which have no meaning here", text
        )
    return text


def _to_whole(given: Any, name: str) -> int:
    if isinstance(given, Plain) and WHOLE.fullmatch(given):
        return int(given)
    if isinstance(given, str | bool) or not isinstance(given, SupportsIndex):
        raise _refusal(name, "a whole number in decimal digits", given)
    try:
        return operator.index(given)
    except TypeError as error:  # an array of several numbers
        raise _refusal(name, "a whole number in decimal digits", given) from error


def _to_number(given: Any, name: str) -> float:
    if isinstance(given, Plain) and NUMBER.fullmatch(given):
        given = float(given)
    if isinstance(given, str | bool) or not isinstance(given, SupportsFloat):
        raise _refusal(name, "a number such as 0.001 or 1e-3", given)
    try:
        value = float(given)
    except OverflowError:
        value = inf
    except TypeError as error:  # an array of several numbers
        raise _refusal(name, "a number such as 0.001 or 1e-3", given) from error
    if not isfinite(value):
        raise _refusal(name, "a finite number", given)
    return value


def _to_switch(given: Any, name: str) -> bool:
    if isinstance(given, Plain) and (found := SWITCH.fullmatch(given)):
        return found[1] is not None
    if not isinstance(given, bool):
        raise _refusal(name, "true or false", given)
    return given


def _to_anything(given: Any, name: str) -> Any:
    if isinstance(given, Mapping):
        return {str(key): _to_anything(value, f"{name}.{key}") for key, value in given.items()}
    if isinstance(given, list | tuple):
        return [_to_anything(entry, name) for entry in given]
    if not isinstance(given, str):
        return given
    return _to_one_of((NoneType, bool, int, float, str), given, name)


READERS: Mapping[Any, Callable[[Any, str], Any]] = {
    str: _to_text,
    int: _to_whole,
    float: _to_number,
    bool: _to_switch,
    Any: _to_anything,
}
