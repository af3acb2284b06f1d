"""What a preparation read, kept and left out, as counts that add up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.fit import Beyond
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, Misfits


@dataclass(frozen=True)
class LeftOut:
    """An episode that was left out.

    Attributes:
        number: Its number in the source.
        id: Its name; "" if it could not be read.
        kind: Short name of the reason.
        reason: The whole reason.
    """

    number: int
    id: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Moments:
    """Sums over rows of numbers, which give their mean, deviation and range.

    Attributes:
        count: Number of rows.
        sums: Sum of each column.
        squares: Sum of the squares of each column.
        low: Smallest value of each column.
        high: Largest value of each column.
    """

    count: int = 0
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __add__(self, other: "Moments") -> "Moments":
        """Return the sums of both."""
        if not self.count or not other.count:
            return self if self.count else other
        return Moments(
            self.count + other.count,
            _columns(np.add, self.sums, other.sums),
            _columns(np.add, self.squares, other.squares),
            _columns(np.minimum, self.low, other.low),
            _columns(np.maximum, self.high, other.high),
        )

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each column."""
        return np.array(self.sums) / self.count

    @property
    def std(self) -> NDArray[np.float64]:
        """Standard deviation of each column."""
        return np.sqrt(np.maximum(np.array(self.squares) / self.count - self.mean**2, 0))


@dataclass(frozen=True)
class Report:
    """Counts of a preparation, or of a part of one; `+` adds them.

    Attributes:
        read: Episodes that were read.
        kept: Episodes that are in the result.
        frames: Their frames.
        pictures: How their frames were stored -> number of frames.
        left_out: The other episodes.
        misfits: Counts of corrected actions.
        beyond: Action field -> its values outside the bounds.
        at_rest: Action field that the source lacks -> number of episodes.
        stuck_frames: Frames that repeat the one before for long, although the actions move.
        stuck_episodes: Episodes with such frames.
        actions: Moments of the actions.
        pixels: Moments of every 8th pixel in both directions, by colour, from 0 to 1.
    """

    read: int = 0
    kept: int = 0
    frames: int = 0
    pictures: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    misfits: Misfits = NO_MISFITS
    beyond: Mapping[str, Beyond] = field(default_factory=dict)
    at_rest: Mapping[str, int] = field(default_factory=dict)
    stuck_frames: int = 0
    stuck_episodes: int = 0
    actions: Moments = Moments()
    pixels: Moments = Moments()

    def __add__(self, other: "Report") -> "Report":
        """Return the counts of both."""
        sums: dict[str, Any] = {}
        for each in fields(self):
            one, two = getattr(self, each.name), getattr(other, each.name)
            sums[each.name] = _merged(one, two) if isinstance(one, Mapping) else one + two
        return Report(**sums)

    def kinds(self) -> list[tuple[str, int, LeftOut]]:
        """Return each kind of reason, how many episodes it left out, and the first of them."""
        counts = Counter(each.kind for each in self.left_out)
        first = {each.kind: each for each in reversed(self.left_out)}
        return [(kind, count, first[kind]) for kind, count in counts.most_common()]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def report_from_json(stored: Mapping[str, Any]) -> Report:
    """Return the report that `Report.to_json` described."""
    return Report(
        **{
            **stored,
            "left_out": tuple(LeftOut(**each) for each in stored["left_out"]),
            "misfits": Misfits(
                **{**stored["misfits"], "farthest": tuple(stored["misfits"]["farthest"])}
            ),
            "beyond": {name: Beyond(**each) for name, each in stored["beyond"].items()},
            **{name: _moments(stored[name]) for name in ("actions", "pixels") if name in stored},
        }
    )


def moments_of(rows: NDArray[Any]) -> Moments:
    """Return the moments of numbers (n, columns), n > 0."""
    values = rows.astype(np.float64)
    parts = values.sum(0), (values**2).sum(0), values.min(0), values.max(0)
    return Moments(len(values), *(tuple(part.tolist()) for part in parts))


def _moments(stored: Mapping[str, Any]) -> Moments:
    return Moments(stored["count"], *(tuple(stored[f.name]) for f in fields(Moments)[1:]))


def _columns(combine: np.ufunc, one: Any, other: Any) -> tuple[float, ...]:
    return tuple(combine(np.array(one), np.array(other)).tolist())


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return both mappings with the values of common keys added, in the order of the keys."""
    return {
        key: one[key] + other[key] if key in one and key in other else {**one, **other}[key]
        for key in sorted({**one, **other})
    }
