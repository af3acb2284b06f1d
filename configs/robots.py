"""What a robot's action means: order, units, bounds and control rate, one `RobotSpec` per robot."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

PI = float(np.pi)
ROUNDING = 1e-6
"""How far an action may miss a bound through arithmetic alone."""


@dataclass(frozen=True)
class ActionField:
    """One named group of action values.

    Attributes:
        name: The field's name in the robot's own data format.
        size: How many values it has.
        unit: Physical unit of one value, per control step.
        low: Smallest value the robot executes.
        high: Largest value the robot executes; equal to `low` for a field this robot cannot move.
    """

    name: str
    size: int
    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class RobotSpec:
    """A robot as a policy and a world model see it.

    Attributes:
        name: Key in `ROBOTS`.
        fields: The action's fields, in the order in which they are concatenated.
        control_hz: Actions per second.
        frame_size: Height and width of the camera frame, in pixels.
    """

    name: str
    fields: tuple[ActionField, ...]
    control_hz: float
    frame_size: tuple[int, int]

    @cached_property
    def action_size(self) -> int:
        """Number of values in one action (A)."""
        return sum(field.size for field in self.fields)

    @cached_property
    def low(self) -> NDArray[np.float32]:
        """Lower bounds, (A,)."""
        return np.concatenate([np.full(f.size, f.low, np.float32) for f in self.fields])

    @cached_property
    def high(self) -> NDArray[np.float32]:
        """Upper bounds, (A,)."""
        return np.concatenate([np.full(f.size, f.high, np.float32) for f in self.fields])

    @cached_property
    def value_names(self) -> tuple[str, ...]:
        """One label per action value, such as `world_vector[0]`."""
        return tuple(f"{f.name}[{i}]" for f in self.fields for i in range(f.size))

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Where each field lies in the action."""
        ends = np.cumsum([field.size for field in self.fields])
        return {
            f.name: slice(int(e) - f.size, int(e)) for f, e in zip(self.fields, ends, strict=True)
        }

    def make_action(self, **values: NDArray[np.float32] | float) -> NDArray[np.float32]:
        """Return an action (A,) that does nothing except in the named fields.

        A robot that can end an episode gets "continue" unless `terminate_episode` is named.

        Raises:
            KeyError: A name that is not a field of this robot.
        """
        action = np.zeros(self.action_size, np.float32)
        if "terminate_episode" in self.slices:
            action[self.slices["terminate_episode"]] = CONTINUE
        for name, value in values.items():
            if name not in self.slices:
                raise KeyError(f"expected one of {list(self.slices)}, found action field {name!r}")
            action[self.slices[name]] = value
        return action

    def check_actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `actions` (B, A) as float32 within the bounds if the robot can execute them.

        A value beyond its bound by no more than `ROUNDING` is brought back to it.

        Raises:
            ValueError: Wrong shape, a value that is not finite, or one outside the bounds.
        """
        actions = np.asarray(actions, np.float32)
        if actions.ndim != 2 or actions.shape[1] != self.action_size:
            raise ValueError(
                f"expected actions of shape (B, {self.action_size}) for robot {self.name!r}, "
                f"found {actions.shape}"
            )
        bad = ~np.isfinite(actions) | (actions < self.low - ROUNDING)
        bad |= actions > self.high + ROUNDING
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"expected {self.value_names[column]} in [{self.low[column]:g}, "
                f"{self.high[column]:g}] for robot {self.name!r}, found {actions[row, column]:g} "
                f"in row {row}; clip or rescale the policy's actions before the step"
            )
        return np.clip(actions, self.low, self.high)

    def terminates(self, actions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each of `actions` (B, A) asks to end the episode: (B,)."""
        if "terminate_episode" not in self.slices:
            return np.zeros(len(actions), np.bool_)
        return np.argmax(actions[:, self.slices["terminate_episode"]], axis=1) == 0


CONTINUE = np.array([0, 1, 0], np.float32)
TERMINATE = np.array([1, 0, 0], np.float32)

GOOGLE_ROBOT = RobotSpec(
    name="google_robot",
    fields=(
        ActionField("base_displacement_vector", 2, "m", -1, 1),
        ActionField("base_displacement_vertical_rotation", 1, "rad", -PI, PI),
        ActionField("gripper_closedness_action", 1, "change of closedness", -1, 1),
        ActionField("rotation_delta", 3, "rad", -PI / 2, PI / 2),
        ActionField("terminate_episode", 3, "one-hot: end, arm, base", 0, 1),
        ActionField("world_vector", 3, "m", -1, 1),
    ),
    control_hz=3,
    frame_size=(256, 320),
)
"""The RT-1 robot: the 13 values of fractal20220817_data in alphabetical order of their names."""


def _narrowed(
    spec: RobotSpec, bounds: Mapping[str, tuple[float, float]]
) -> tuple[ActionField, ...]:
    return tuple(
        replace(f, low=bounds[f.name][0], high=bounds[f.name][1]) if f.name in bounds else f
        for f in spec.fields
    )


STANDIN_SAWYER = RobotSpec(
    name="standin_sawyer",
    fields=_narrowed(
        GOOGLE_ROBOT,
        {
            "base_displacement_vector": (0, 0),
            "base_displacement_vertical_rotation": (0, 0),
            "rotation_delta": (0, 0),
            "world_vector": (-0.05, 0.05),
        },
    ),
    control_hz=3,
    frame_size=(64, 64),
)
"""The stand-in: Meta-World's simulated Sawyer arm behind the same 13 names. No base, no wrist."""

ROBOTS: Mapping[str, RobotSpec] = {spec.name: spec for spec in (GOOGLE_ROBOT, STANDIN_SAWYER)}
