"""Action layouts: the fields of an action, their order, and the conventions of two of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.rules import OneOf

Value: TypeAlias = NDArray[np.float32] | tuple[float, ...] | float | str
"""A field's value: all its numbers, one number for all of them, or the label of one."""

HAND, ROTATION, GRIPPER = "world_vector", "rotation_delta", "gripper_closedness_action"
"""The fields of an arm that other data formats have too."""
OPENING = "open_gripper"
"""A gripper's position: 1 open, 0 closed."""


@dataclass(frozen=True)
class ActionField:
    """One named group of action values.

    Attributes:
        name: The field's name in the robot's own data format.
        size: How many values it has.
        unit: Physical unit of one value, per control step.
        low: Smallest value the robot executes.
        high: Largest value the robot executes; equal to `low` for a field this robot cannot move.
        labels: A name for each value; empty for values that are only numbered.
        idle: Index of the value that is 1 while the field does nothing; None if all are then 0.
    """

    name: str
    size: int
    unit: str
    low: float
    high: float
    labels: tuple[str, ...] = ()
    idle: int | None = None

    @property
    def is_one_hot(self) -> bool:
        """Whether the field chooses one of `size` options by a 1 among zeros."""
        return self.idle is not None

    @cached_property
    def resting(self) -> NDArray[np.float32]:
        """The values (size,) that do nothing."""
        return self._one(self.idle) if self.idle is not None else np.zeros(self.size, np.float32)

    def to_values(self, value: Value) -> NDArray[np.float32]:
        """Return `value` as the field's values (size,); a label becomes a 1 at its index.

        Raises:
            ValueError: An unknown label, or a number of values other than `size` or 1.
        """
        if isinstance(value, str):
            places = {label: i for i, label in enumerate(self.labels)}
            return self._one(lookup(places, value, self.name))
        given = np.asarray(value, np.float32)
        if given.shape not in ((), (1,), (self.size,)):
            raise ValueError(f"expected {self.size} values of {self.name}, found {given.shape}")
        return np.broadcast_to(given, self.size)

    def _one(self, place: int) -> NDArray[np.float32]:
        return np.eye(self.size, dtype=np.float32)[place]


@dataclass(frozen=True)
class GripperRange:
    """The two ends of a gripper's position; a policy may give any value between them.

    Attributes:
        opened: The value of an open gripper.
        closed: The value of a closed gripper.
    """

    opened: float
    closed: float


GRIPPER_RANGES: Mapping[str, GripperRange] = {
    "absolute": GripperRange(opened=1, closed=0),
    "closedness": GripperRange(opened=0, closed=1),
    "signed": GripperRange(opened=1, closed=-1),
    "signed_closedness": GripperRange(opened=-1, closed=1),
}
"""Conventions for a gripper's position.

Octo, OpenVLA and Bridge use `absolute`, DROID and AgiBot `closedness`. LIBERO, robosuite and
RoboCasa use `signed_closedness`; `signed` is its mirror image.
"""
CONVENTIONS: Mapping[str, tuple[str, ...]] = {
    "gripper": ("relative", *GRIPPER_RANGES, "none"),
    "rotation": ("rpy", "axis_angle", "none"),
}
"""Conventions that the values of two fields may follow; see `ActionLayout`."""
GripperName: TypeAlias = Annotated[str, OneOf(("", *CONVENTIONS["gripper"]))]
RotationName: TypeAlias = Annotated[str, OneOf(("", *CONVENTIONS["rotation"]))]
"""Settings that name a convention; empty for the layout's own."""


@dataclass(frozen=True)
class ActionLayout:
    """The order of an action's values, and the conventions of its gripper and rotation.

    Attributes:
        name: Key in `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        fields: Name and number of values of each field, in order.
        gripper: "relative" for a change of closedness (+ closes, - opens, 0 holds), a key of
            `GRIPPER_RANGES` for a position ("absolute" is 1 open, 0 closed), or "none".
        rotation: "rpy" for roll, pitch, yaw, "axis_angle" for an axis times an angle, or "none".
    """

    name: str
    fields: tuple[tuple[str, int], ...]
    gripper: str = "none"
    rotation: str = "none"

    @cached_property
    def size(self) -> int:
        """Number of values (D)."""
        return sum(size for _, size in self.fields)

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Each field's slice of the action."""
        found, end = {}, 0
        for name, size in self.fields:
            found[name] = slice(end, end + size)
            end += size
        return found

    def pick(self, name: str, *fields: str, gripper: str = "") -> "ActionLayout":
        """Return a layout with some of these fields, in the given order.

        Args:
            name: Name of the new layout.
            fields: Names of its fields, in order.
            gripper: Convention of its gripper; empty for this layout's own.
        """
        sizes = dict(self.fields)
        return ActionLayout(
            name,
            tuple((field, sizes[field]) for field in fields),
            gripper=(gripper or self.gripper) if GRIPPER in fields else "none",
            rotation=self.rotation if ROTATION in fields else "none",
        )
