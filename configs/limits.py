"""Limits of numbers in settings, checked before anything takes memory or time."""

from collections.abc import Mapping
from functools import reduce
from reprlib import repr as shorten
from typing import Any, TypeAlias

Limits: TypeAlias = Mapping[str, tuple[float, float]]
"""A setting, with dots where it is nested -> the least and the most that can be meant."""


def check_limits(cfg: Any, limits: Limits, section: str = "") -> None:
    """Check numbers, and every number of lists; settings of a part that is null are left out.

    Args:
        cfg: A dataclass.
        limits: See `Limits`.
        section: What to put before names in the message, such as `network.`.

    Raises:
        ValueError: Not a number, NaN, or out of its limits; the message names the setting.
    """
    for name, (least, most) in limits.items():
        value = reduce(_part, name.split("."), cfg)
        for number in value if isinstance(value, tuple | list) else (value,):
            _check(section + name, number, value, least, most)


def _part(cfg: Any, name: str) -> Any:
    return getattr(cfg, name) if cfg is not None else None


def _check(name: str, number: Any, value: Any, least: float, most: float) -> None:
    if number is None:
        return
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError(f"expected a number in {name}, found {shorten(value)}")
    if not number >= least:
        raise ValueError(f"expected {name} of at least {least:g}, found {shorten(value)}")
    if number > most:
        raise ValueError(f"expected {name} of at most {most:g}, found {shorten(value)}")
