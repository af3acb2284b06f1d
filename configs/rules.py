"""Rules for the values of settings, which stand beside their types, and common types with rules."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from v2w_gym.configs.names import check_file_name, check_name, hint
from v2w_gym.configs.text import brief, expand


@dataclass(frozen=True)
class Range:
    """A rule for numbers: from `low` to `high`, both included."""

    low: float
    high: float

    def broken_by(self, value: float) -> str:
        """Return the bound that `value` breaks, such as ">= 1"; nothing if it is in the range."""
        if value < self.low:
            return f">= {self.low:.12g}"
        return "" if value <= self.high else f"<= {self.high:.12g}"

    def __str__(self) -> str:
        """Return the range in words."""
        return f"from {self.low:.12g} to {self.high:.12g}"


@dataclass(frozen=True)
class OneOf:
    """A rule for text: one of `choices`."""

    choices: tuple[str, ...]

    def __call__(self, value: str) -> str:
        """Return `value` if it is one of the choices.

        Raises:
            ValueError: Any other value.
        """
        if value not in self.choices:
            raise ValueError(
                f"expected one of {list(self.choices)}, found {brief(value)}"
                f"{hint(value, list(self.choices))}"
            )
        return value


@dataclass(frozen=True)
class SomeOf:
    """A rule for mappings: some settings of `schema` by name, as in {steps: 10}."""

    schema: type[Any]


def distinct(entries: list[Any]) -> list[Any]:
    """Return `entries` if no two are equal.

    Raises:
        ValueError: An entry that occurs twice.
    """
    twice = [entry for entry, times in Counter(entries).items() if times > 1]
    if twice:
        raise ValueError(f"expected every entry once, found {brief(twice[0])} twice")
    return entries


def some(entries: list[Any]) -> list[Any]:
    """Return `entries` if there are any, and no two are equal.

    Raises:
        ValueError: No entries, or one that occurs twice.
    """
    if not entries:
        raise ValueError("expected at least one entry, found none")
    return distinct(entries)


Rule: TypeAlias = Range | SomeOf | Callable[[Any], Any]
"""A rule beside a type in `Annotated`; a function returns the value or raises ValueError."""

PathText: TypeAlias = Annotated[str, expand]
"""A path, or a name in its place; a leading `~` is the home folder."""
Name: TypeAlias = Annotated[str, check_name]
FileName: TypeAlias = Annotated[str, check_file_name]
Seed: TypeAlias = Annotated[int, Range(0, 2**32 - 1)]
Share: TypeAlias = Annotated[float, Range(0, 1)]
Factor: TypeAlias = Annotated[float, Range(0, 1e6)]
"""A factor or a tolerance."""
Steps: TypeAlias = Annotated[int, Range(1, 100_000_000)]
"""Training steps, in all or between two saves."""
LearningRate: TypeAlias = Annotated[float, Range(0, 1e30)]
BatchSize: TypeAlias = Annotated[int, Range(1, 65_536)]
Frames: TypeAlias = Annotated[int, Range(1, 100_000)]
"""Frames of one rollout."""
Window: TypeAlias = Annotated[int, Range(1, 4096)]
"""Frames that a network attends to together."""
Amount: TypeAlias = Annotated[int, Range(1, 1_000_000)]
"""A number of episodes, starts or rollouts."""
Threads: TypeAlias = Annotated[int, Range(1, 1024)]
Rate: TypeAlias = Annotated[float, Range(0.001, 100_000)]
"""Frames or actions per second."""
Size: TypeAlias = Annotated[int, Range(1, 65_536)]
"""Channels, tokens or another width of a network."""
Pixels: TypeAlias = Annotated[int, Range(1, 16_384)]
