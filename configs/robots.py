"""Robots: the order, units, bounds and control rate of their actions, one `RobotSpec` each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import (
    GRIPPER,
    HAND,
    OPENING,
    ROTATION,
    ActionField,
    ActionLayout,
    Value,
)
from v2w_gym.configs.rules import OneOf

PI = float(np.pi)
ROUNDING = 1e-6
"""How far arithmetic alone may take an action beyond a bound."""
TERMINATE = "terminate_episode"
"""The field by which a policy ends the episode: one-hot, and its first value ends it."""
ENDINGS = {"stop": False, "ignore": True}
"""Setting `terminate` -> whether to ignore a policy that ends the episode."""
ONE_HOT_ROUNDING = 1e-3
"""How far normalisation may take the values of a one-hot field from 0 and 1."""


@dataclass(frozen=True)
class ClippedActions:
    """B actions as a robot executes them, and the corrections that they needed.

    Attributes:
        actions: (B, A) float32, within the bounds, and with one-hot fields that are one-hot.
        clipped: (B, A) bool, whether a value was outside its bounds; False for one-hot fields.
        not_one_hot: (B,) bool, whether a one-hot field was not one-hot and was set to rest.
    """

    actions: NDArray[np.float32]
    clipped: NDArray[np.bool_]
    not_one_hot: NDArray[np.bool_]

    def select(self, rows: Sequence[int]) -> "ClippedActions":
        """Return the actions at `rows`."""
        return ClippedActions(self.actions[rows], self.clipped[rows], self.not_one_hot[rows])


@dataclass(frozen=True)
class RobotSpec:
    """A robot as a policy and a world model see it.

    `gripper_closedness_action` is a change of closedness, and `rotation_delta` is roll, pitch, yaw.
    The actions of policies with other conventions are converted to these two.

    Attributes:
        name: Key in `ROBOTS`.
        domain: Domain of its world models; its environment's id is `Vid2World-<domain>-v0`.
        data_format: Name of its data format, and of its action layout.
        fields: The action's fields, in the order of their values.
        control_hz: Actions per second.
        frame_size: Height and width of the camera frame, in pixels.
        moves_by_field: Arguments of `make_action` for each of `moves`.
    """

    name: str
    domain: str
    data_format: str
    fields: tuple[ActionField, ...]
    control_hz: float
    frame_size: tuple[int, int]
    moves_by_field: Mapping[str, Mapping[str, Value]] = field(default_factory=dict, hash=False)

    @cached_property
    def action_layout(self) -> ActionLayout:
        """The layout of its actions."""
        names = {f.name for f in self.fields}
        return ActionLayout(
            self.data_format,
            tuple((f.name, f.size) for f in self.fields),
            gripper="relative" if GRIPPER in names else "none",
            rotation="rpy" if ROTATION in names else "none",
        )

    @cached_property
    def action_size(self) -> int:
        """Number of values in one action (A)."""
        return self.action_layout.size

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
        """One name per action value, such as `world_vector[0]` or `keys[w]`."""
        return tuple(f"{f.name}[{i}]" for f in self.fields for i in f.labels or range(f.size))

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Each field's slice of the action."""
        return self.action_layout.slices

    @cached_property
    def moves(self) -> Mapping[str, NDArray[np.float32]]:
        """Example actions (A,) by label; each differs from rest in one field."""
        return {label: self.make_action(**values) for label, values in self.moves_by_field.items()}

    def make_action(self, **values: Value) -> NDArray[np.float32]:
        """Return an action (A,) that does nothing except in the named fields.

        Raises:
            KeyError: A name that is not a field of this robot.
            ValueError: Values that the field cannot take; see `ActionField.to_values`.
        """
        for name in values:
            if name not in self.slices:
                raise KeyError(f"expected one of {list(self.slices)}, found action field {name!r}")
        return np.concatenate(
            [f.to_values(values[f.name]) if f.name in values else f.resting for f in self.fields]
        )

    def clip_actions(self, actions: NDArray[np.float32]) -> ClippedActions:
        """Return `actions` (B, A) as the robot executes them.

        Values outside the bounds are clipped. A one-hot field (`terminate_episode`, a mouse) that
        is not one-hot, such as all zeros, is set to rest.

        Raises:
            ValueError: Wrong shape, or a value that is not finite.
        """
        actions = self._finite(actions)
        executed = np.clip(actions, self.low, self.high)
        clipped = np.abs(executed - actions) > ROUNDING
        not_one_hot = np.zeros(len(actions), np.bool_)
        for place, resting in self._one_hot_fields:
            unset = ~_is_one_hot(actions[:, place])
            executed[unset, place] = resting
            clipped[:, place] = False
            not_one_hot |= unset
        return ClippedActions(executed, clipped, not_one_hot)

    def check_actions(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `actions` (B, A) as float32 if the robot can execute them.

        A value beyond its bound by no more than `ROUNDING` is clipped to it.

        Raises:
            ValueError: Wrong shape, a value that is not finite, or one outside the bounds.
        """
        actions = self._finite(actions)
        bad = (actions < self.low - ROUNDING) | (actions > self.high + ROUNDING)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"expected {self.value_names[column]} in [{self.low[column]:g}, "
                f"{self.high[column]:g}] for robot {self.name!r}, found {actions[row, column]:g} "
                f"in row {row}; clip or rescale the actions first"
            )
        return np.clip(actions, self.low, self.high)

    def terminates(self, actions: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each of `actions` (B, A) ends the episode: (B,).

        Only an exact one-hot does; zeros, ties and fractions do not.
        """
        if TERMINATE not in self.slices:
            return np.zeros(len(actions), np.bool_)
        endings = actions[:, self.slices[TERMINATE]]
        return _is_one_hot(endings) & (np.argmax(endings, axis=1) == 0)

    def ignore_endings(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `actions` (B, A), in which those that end the episode rest instead."""
        ends = self.terminates(actions)
        if not ends.any():
            return actions
        place = self.slices[TERMINATE]
        continued = actions.copy()
        continued[ends, place] = self.make_action()[place]
        return continued

    @cached_property
    def _one_hot_fields(self) -> tuple[tuple[slice, NDArray[np.float32]], ...]:
        """The slice of each one-hot field, and its values at rest."""
        return tuple((self.slices[f.name], f.resting) for f in self.fields if f.is_one_hot)

    def _finite(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `actions` as float32; check that they are (B, A) and finite."""
        actions = np.asarray(actions, np.float32)
        if actions.ndim != 2 or actions.shape[1] != self.action_size:
            raise ValueError(
                f"expected actions of shape (B, {self.action_size}) for robot {self.name!r}, "
                f"found {actions.shape}"
            )
        if not np.isfinite(actions).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(actions))[0])
            raise ValueError(
                f"expected a finite {self.value_names[column]} for robot {self.name!r}, found "
                f"{actions[row, column]} in row {row}; check what computes the actions"
            )
        return actions


def _is_one_hot(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each row of `values` (B, size) is a 1 among zeros: (B,)."""
    is_one = np.abs(values - 1) <= ONE_HOT_ROUNDING
    is_zero = np.abs(values) <= ONE_HOT_ROUNDING
    exact: NDArray[np.bool_] = (is_one | is_zero).all(axis=1) & (is_one.sum(axis=1) == 1)
    return exact


def _steps(name: str, size: float) -> Mapping[str, Mapping[str, Value]]:
    """Return moves by `size` in both directions of each axis of a field."""
    return {
        f"{sign}{axis}": {name: tuple(step if axis == a else 0.0 for a in "XYZ")}
        for axis in "XYZ"
        for sign, step in (("+", size), ("-", -size))
    }


GOOGLE_ROBOT = RobotSpec(
    name="google_robot",
    domain="RT1",
    data_format="fractal13",
    fields=(
        ActionField("base_displacement_vector", 2, "m", -1, 1),
        ActionField("base_displacement_vertical_rotation", 1, "rad", -PI, PI),
        ActionField(GRIPPER, 1, "change of closedness", -1, 1),
        ActionField(ROTATION, 3, "rad", -PI / 2, PI / 2),
        ActionField(TERMINATE, 3, "one-hot: end, arm, base", 0, 1, idle=1),
        ActionField(HAND, 3, "m", -1, 1),
    ),
    control_hz=3,
    frame_size=(256, 320),
    moves_by_field=_steps(HAND, 0.1),
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
    domain="RT1",
    data_format="fractal13",
    fields=_narrowed(
        GOOGLE_ROBOT,
        {
            "base_displacement_vector": (0, 0),
            "base_displacement_vertical_rotation": (0, 0),
            ROTATION: (0, 0),
            HAND: (-0.05, 0.05),
        },
    ),
    control_hz=3,
    frame_size=(64, 64),
    moves_by_field=_steps(HAND, 0.05),
)
"""The stand-in: Meta-World's simulated Sawyer arm with the same 13 values. No base, no wrist."""

KEYS = ("w", "a", "s", "d", "space", "ctrl", "shift", "1", "2", "3", "r")
MOUSE_X = "-1000 -500 -300 -200 -100 -60 -30 -20 -10 -4 -2 0 2 4 10 20 30 60 100 200 300 500 1000"
MOUSE_Y = "-200 -100 -50 -20 -10 -4 -2 0 2 4 10 20 50 100 200"


def _mouse(name: str, speeds: str) -> ActionField:
    labels = tuple(speeds.split())
    unit = "one-hot: pixels, negative is left or up"
    return ActionField(name, len(labels), unit, 0, 1, labels, labels.index("0"))


CSGO_PLAYER = RobotSpec(
    name="csgo_player",
    domain="CSGO",
    data_format="csgo51",
    fields=(
        ActionField("keys", len(KEYS), "held or not", 0, 1, KEYS),
        ActionField("left_click", 1, "held or not", 0, 1),
        ActionField("right_click", 1, "held or not", 0, 1),
        _mouse("mouse_x", MOUSE_X),
        _mouse("mouse_y", MOUSE_Y),
    ),
    control_hz=16,
    frame_size=(150, 280),
    moves_by_field={
        **{key.upper(): {"keys": key} for key in "wasd"},
        "mouse left": {"mouse_x": "-60"},
        "mouse right": {"mouse_x": "60"},
        "mouse up": {"mouse_y": "-20"},
        "mouse down": {"mouse_y": "20"},
    },
)
"""A player of Counter-Strike: Global Offensive: 51 on-off values.

Source: Diffusion for World Modeling (DIAMOND), arXiv 2405.12399, and its data set.
"""

RECON_JACKAL = RobotSpec(
    name="recon_jackal",
    domain="RECON",
    data_format="recon3",
    fields=(
        ActionField("displacement_x", 1, "m, forward", -0.625, 1.25),
        ActionField("displacement_y", 1, "m, to the left", -1, 1),
        ActionField("yaw_change", 1, "rad, to the left", -PI, PI),
    ),
    control_hz=4,
    frame_size=(480, 640),
    moves_by_field={
        "forward": {"displacement_x": 0.25},
        "backward": {"displacement_x": -0.25},
        "left": {"displacement_y": 0.25},
        "right": {"displacement_y": -0.25},
        "turn left": {"yaw_change": 0.2},
        "turn right": {"yaw_change": -0.2},
    },
)
"""The Jackal of the RECON data set, a wheeled outdoor robot; its axes before the step count.

The published model's normalisation gives the displacements' bounds: -2.5 to 5 and -4 to 4 units of
0.25 m.
"""

WIDOWX = RobotSpec(
    name="widowx",
    domain="Bridge",
    data_format="bridge7",
    fields=(
        ActionField(HAND, 3, "m", -0.05, 0.05),
        ActionField(ROTATION, 3, "rad", -0.25, 0.25),
        ActionField(OPENING, 1, "position: 1 open, 0 closed", 0, 1),
    ),
    control_hz=5,
    frame_size=(256, 256),
    moves_by_field=_steps(HAND, 0.02),
)
"""The WidowX 250 arm of BridgeData V2, in the order and frame size of its RLDS files.

The bounds of a step are those of its controller. At rest the gripper is closed, because zeros are
rest. Source: BridgeData V2, arXiv 2308.12952.
"""

ROBOTS: Mapping[str, RobotSpec] = {
    spec.name: spec for spec in (STANDIN_SAWYER, GOOGLE_ROBOT, CSGO_PLAYER, RECON_JACKAL, WIDOWX)
}
"""A domain's first robot is the default of its environment."""

FRACTAL13 = GOOGLE_ROBOT.action_layout
OXE7 = FRACTAL13.pick("oxe7", HAND, ROTATION, GRIPPER, gripper="absolute")
"""The seven values of Octo, OpenVLA and similar policies: hand, rotation, gripper (1 open)."""
WME10 = FRACTAL13.pick(
    "wme10",
    *(HAND, ROTATION, GRIPPER),
    *("base_displacement_vector", "base_displacement_vertical_rotation"),
)
"""The ten values of world-model-eval's recordings."""
DROID8 = ActionLayout("droid8", (("joint_velocity", 7), (GRIPPER, 1)), gripper="closedness")
"""The eight values of openpi's DROID policies: joint velocities and the gripper."""

ACTION_LAYOUTS: Mapping[str, ActionLayout] = {
    **{robot.data_format: robot.action_layout for robot in ROBOTS.values()},
    **{layout.name: layout for layout in (WME10, OXE7, DROID8)},
}
"""Action layouts of policies: every robot's own, and those of other data formats."""
LayoutName: TypeAlias = Annotated[str, OneOf(tuple(ACTION_LAYOUTS))]
