"""A YAML parser for settings: it returns mappings, lists and text, and never guesses types."""

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from v2w_gym.configs.values import Plain

LONGEST = 200_000
"""Most characters of a file; real ones have a few thousand."""
DEEPEST = 20
"""Most levels of nested mappings and lists."""


def parse_yaml(text: str) -> Any:
    """Return dicts and lists of `str`; text without quotes becomes `Plain`.

    The parser does not guess types as YAML 1.1 does (no, 010, 1_000, 12:30). It refuses tags,
    anchors and aliases, since aliases can expand to more than memory holds.

    Raises:
        ValueError: Text that is not YAML, more than one document, or a tag, anchor or alias.
    """
    if len(text) > LONGEST:
        raise ValueError(f"expected at most {LONGEST} characters of YAML, found {len(text)}")
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    try:
        next(events)
        if isinstance(next(events), StreamEndEvent):
            return {}
        value = _value(events, next(events), DEEPEST)
        next(events)
        if not isinstance(event := next(events), StreamEndEvent):
            raise _refusal("one document", "a second one", event)
    except yaml.YAMLError as error:
        raise ValueError(_problem(error)) from error
    return value


def _value(events: Iterator[Event], event: Event, room: int) -> Any:
    if isinstance(event, AliasEvent) or event.anchor is not None:
        raise _refusal("values written out", f"the anchor or alias {event.anchor!r}", event)
    if event.tag not in (None, "!"):
        raise _refusal("values without tags", f"the tag {event.tag!r}", event)
    if isinstance(event, ScalarEvent):
        return Plain(event.value) if event.implicit[0] else event.value
    if not room:
        raise _refusal(f"at most {DEEPEST} levels of mappings and lists", "more", event)
    if isinstance(event, SequenceStartEvent):
        return [_value(events, entry, room - 1) for entry in _until(events, SequenceEndEvent)]
    return _mapping(events, room - 1)


def _mapping(events: Iterator[Event], room: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for event in _until(events, MappingEndEvent):
        if not isinstance(event, ScalarEvent):
            raise _refusal("a word as key", "a list or mapping", event)
        key = str(_value(events, event, room))
        if key in found:
            raise ValueError(f"found duplicate key {key} in line {event.start_mark.line + 1}")
        found[key] = _value(events, next(events), room)
    return found


def _until(events: Iterator[Event], end: type[Event]) -> Iterator[Event]:
    """Yield the events of a collection, which one of the type `end` closes."""
    while not isinstance(event := next(events), end):
        yield event


def _refusal(expected: str, found: str, event: Event) -> ValueError:
    return ValueError(f"expected {expected}, found {found} in line {event.start_mark.line + 1}")


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "no YAML"
    return f"{problem} in line {mark.line + 1}" if mark else str(problem)
