"""Action values: their names, units and bounds, and the distribution of what was recorded."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import ActionField
from v2w_gym.configs.robots import ROUNDING, RobotSpec

AT_REST = 1e-3
"""A value is at rest this close to rest, as a share of the width of its bounds."""


@dataclass(frozen=True)
class FieldValues:
    """The recorded values of one action field.

    Attributes:
        name: Name of the field; "action" if the data does not name any.
        spec: The robot's field; None without a robot, or if it has no such field.
        episodes: (T - 1, size) for each episode, in the data's own units.
    """

    name: str
    spec: ActionField | None
    episodes: tuple[NDArray[np.float32], ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return self.episodes[0].shape[1]

    @property
    def together(self) -> NDArray[np.float32]:
        """All values (N, size) that are finite in every column."""
        everything = np.concatenate(self.episodes)
        return everything[np.isfinite(everything).all(axis=1)]

    @property
    def resting(self) -> NDArray[np.float32]:
        """The values (size,) that do nothing."""
        return np.zeros(self.size, np.float32) if self.spec is None else self.spec.resting

    @property
    def width(self) -> float:
        """Distance of the bounds; 0 if they are unknown or equal."""
        return 0.0 if self.spec is None else self.spec.high - self.spec.low

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each value."""
        labels = self.spec.labels if self.spec is not None else ()
        return tuple(f"{self.name}[{i}]" for i in labels or range(self.size))

    @property
    def at_rest(self) -> NDArray[np.bool_]:
        """Whether each finite value does nothing, (N, size)."""
        return np.abs(self.together - self.resting) <= AT_REST * self.width


@dataclass(frozen=True)
class ValueStatistics:
    """The distribution of one recorded action value.

    Attributes:
        name: Name of the value.
        quantiles: Smallest, 1 %, median, 99 % and largest.
        low: The robot's lower bound; None if it is unknown.
        high: The robot's upper bound; None if it is unknown.
        at_rest: Share at rest.
        beyond: Share outside the bounds; None if they are unknown.
        missing: Number of values that are not finite.
    """

    name: str
    quantiles: tuple[float, ...]
    low: float | None
    high: float | None
    at_rest: float
    beyond: float | None
    missing: int


def group_fields(
    actions: Sequence[NDArray[np.float32]],
    named: tuple[tuple[str, int], ...] | None,
    robot: RobotSpec | None,
) -> list[FieldValues]:
    """Split actions (T - 1, A) of every episode into fields.

    Args:
        actions: Actions of each episode, of one width A.
        named: Names and sizes of the fields; None for the robot's own.
        robot: The robot; None if it is unknown.
    """
    width = actions[0].shape[1]
    if named is None:
        fits = robot is not None and robot.action_size == width
        named = robot.action_layout.fields if robot and fits else (("action", width),)
    known = {f.name: f for f in robot.fields} if robot else {}
    found, start = [], 0
    for name, size in named:
        spec = known.get(name)
        parts = tuple(each[:, start : start + size] for each in actions)
        found.append(FieldValues(name, spec if spec and spec.size == size else None, parts))
        start += size
    return found


def count_values(field: FieldValues) -> list[ValueStatistics]:
    """Return the statistics of each value of a field."""
    everything = np.concatenate(field.episodes)
    missing = (~np.isfinite(everything)).sum(axis=0)
    values, spec = field.together, field.spec
    if not len(values):
        return []
    quantiles = np.quantile(values, [0, 0.01, 0.5, 0.99, 1], axis=0).T
    beyond = None if spec is None else is_beyond(field).mean(axis=0)
    rest = field.at_rest.mean(axis=0)
    return [
        ValueStatistics(
            name=name,
            quantiles=tuple(float(q) for q in quantiles[i]),
            low=None if spec is None else spec.low,
            high=None if spec is None else spec.high,
            at_rest=float(rest[i]),
            beyond=None if beyond is None else float(beyond[i]),
            missing=int(missing[i]),
        )
        for i, name in enumerate(field.labels)
    ]


def is_beyond(field: FieldValues) -> NDArray[np.bool_]:
    """Whether each finite value is outside the bounds (N, size); False if they are unknown."""
    values, spec = field.together, field.spec
    if spec is None:
        return np.zeros(values.shape, np.bool_)
    return (values < spec.low - ROUNDING) | (values > spec.high + ROUNDING)
