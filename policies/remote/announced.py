"""What a server announces of its policy, and what of it is believed."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from v2w_gym.configs.action_layouts import CONVENTIONS
from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.configs.robots import ACTION_LAYOUTS
from v2w_gym.configs.text import brief, printable
from v2w_gym.policies.base import PolicyMeta
from v2w_gym.policies.remote.wire import pack

Message: TypeAlias = Mapping[str, Any]


def to_meta(url: str, metadata: Message, cfg: RemoteConfig) -> PolicyMeta:
    """Return what is known of a server's policy: what `cfg` says, else what the server announces.

    Raises:
        ValueError: A layout or chunk that nobody says, or something that cannot be.
    """
    said = {name: metadata[name] for name in EXPECTED if metadata.get(name) is not None}
    said |= {name: told for name in EXPECTED if (told := getattr(cfg, name, None)) is not None}
    for name in REQUIRED:
        if name not in said:
            raise ValueError(
                f"expected the policy server at {url} to announce its {name}, found "
                f"{brief(sorted(map(str, metadata)))}; say it in a policy file: `source: {url}` "
                f"and `remote: {{{name}: ...}}`"
            )
    for name, value in said.items():
        what, fits = EXPECTED[name]
        if not fits(value):
            raise ValueError(
                f"expected {name} of the policy at {url} to be {what}, found {brief(value)}"
            )
        unit, most = MOST.get(name, ("", math.inf))
        if _size_of(value) > most:
            raise ValueError(
                f"expected {name} of the policy at {url} to be at most {most:g} {unit}, found "
                f"{brief(value)}"
            )
    lookup(ACTION_LAYOUTS, said["layout"], "layout")
    if "image_size" in said:
        said["image_size"] = tuple(said["image_size"])
    name = printable(said.pop("name", "")).strip() or url
    return PolicyMeta(**{**said, "name": name, "fingerprint": fingerprint(metadata)})


def is_announced(url: str, metadata: Message, flag: str) -> bool:
    """Whether a server announces `flag`, such as "stateless".

    Raises:
        ValueError: Neither true nor false.
    """
    found = metadata.get(flag, False)
    if not isinstance(found, bool | np.bool_):
        raise ValueError(
            f"expected {flag} of the policy at {url} to be true or false, found {brief(found)}"
        )
    return bool(found)


def fingerprint(metadata: Message) -> str:
    """Return the announced sha256 of the weights, else that of everything that is announced.

    Raises:
        ValueError: Metadata that is nested too deep to be written.
    """
    announced = metadata.get("fingerprint")
    if isinstance(announced, str) and announced:
        return printable(announced)
    return hashlib.sha256(pack(dict(metadata))).hexdigest()


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_natural(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_count(value: object) -> bool:
    return _is_natural(value) and value != 0


def _is_size(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value))


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _one_of(field: str) -> tuple[str, Callable[[Any], bool]]:
    *others, last = CONVENTIONS[field]
    what = f"{', '.join(others)} or {last}"
    return what, lambda value: isinstance(value, str) and value in ("", *CONVENTIONS[field])


EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("text", _is_text),
    "fingerprint": ("text", _is_text),
    "layout": ("text", _is_text),
    "image_size": ("height and width", _is_size),
    "control_hz": ("a positive number", lambda value: _is_number(value) and value > 0),
    "history": ("a number of frames", _is_natural),
    "chunk": ("a positive number", _is_count),
    "max_batch": ("a positive number", _is_count),
    "gripper": _one_of("gripper"),
    "rotation": _one_of("rotation"),
    "execution_horizon": ("a number of actions", _is_natural),
    "ensemble": ("a number", _is_number),
}
"""What a server may announce of its policy, and when to believe it."""
REQUIRED = ("layout", "chunk")
MOST: Mapping[str, tuple[str, float]] = {
    "name": ("characters", 200),
    "fingerprint": ("characters", 200),
    "layout": ("characters", 200),
    "image_size": ("pixels a side", 4096),
    "control_hz": ("actions per second", 1e6),
    "history": ("frames", 10_000),
    "chunk": ("actions", 10_000),
    "execution_horizon": ("actions", 10_000),
}
"""Of what there may be how many; beyond it nothing that a robot is driven with lies."""


def _size_of(value: str | Sequence[int] | float) -> float:
    """How large a value is: a number itself, the larger side of a frame, the length of a text."""
    if isinstance(value, str):
        return len(value)
    return value if isinstance(value, int | float) else max(value)
