"""YAML as settings need it: mappings, lists and text. What a text means is not decided here."""

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
"""Most characters; the largest real file has a few thousand."""
DEEPEST = 20
"""Most mappings and lists inside each other."""


def parse_yaml(text: str) -> Any:
    """Return dicts and lists of `str`; a text without quotes is a `Plain`, and so is a key.

    YAML 1.1's guesses (no, 010, 1_000, 12:30) are not made, tags run nothing, and anchors and
    aliases, which can stand for more than memory holds, are refused.

    Raises:
        ValueError: Text that is not YAML, more than one document, or YAML that settings do not use.
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
        raise _refusal(f"at most {DEEPEST} mappings and lists in each other", "more", event)
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
    """Yield events until one of the type `end`, which ends the collection that is being read."""
    while not isinstance(event := next(events), end):
        yield event


def _refusal(expected: str, found: str, event: Event) -> ValueError:
    return ValueError(f"expected {expected}, found {found} in line {event.start_mark.line + 1}")


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "no YAML"
    return f"{problem} in line {mark.line + 1}" if mark else str(problem)
