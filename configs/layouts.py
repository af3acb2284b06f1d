"""What the numbers of an action are, in which order: one `ActionLayout` per data format."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class GripperRange:
    """Two values of a gripper's position: a policy gives them, or something in between.

    Attributes:
        opened: The value of a gripper that is open.
        closed: The value of one that is closed.
    """

    opened: float
    closed: float


POSITIONS: Mapping[str, GripperRange] = {
    "absolute": GripperRange(opened=1, closed=0),
    "closedness": GripperRange(opened=0, closed=1),
    "signed": GripperRange(opened=1, closed=-1),
    "signed_closedness": GripperRange(opened=-1, closed=1),
}
"""What a gripper's position may be: absolute in Octo, OpenVLA and Bridge; closedness in DROID and
AgiBot; signed_closedness in LIBERO, robosuite and RoboCasa; signed is its mirror image."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "gripper": ("relative", *POSITIONS, "none"),
    "rotation": ("rpy", "axis_angle", "none"),
}
"""What the values of two fields may mean; see `ActionLayout`."""


@dataclass(frozen=True)
class ActionLayout:
    """The order of an action's values, and what two of its fields mean.

    Attributes:
        name: Key in `LAYOUTS`.
        fields: Name and number of values of each field, in order.
        gripper: Whether the gripper's value is a change of closedness ("relative": + closes, -
            opens, 0 holds), a position (one of `POSITIONS`; "absolute" is 1 open, 0 closed), or
            not there ("none").
        rotation: Whether a rotation is roll, pitch, yaw ("rpy"), an axis times an angle
            ("axis_angle"), or not there ("none").
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
        """Where each field lies in the action."""
        found, end = {}, 0
        for name, size in self.fields:
            found[name] = slice(end, end + size)
            end += size
        return found


FRACTAL13 = ActionLayout(
    name="fractal13",
    fields=(
        ("base_displacement_vector", 2),
        ("base_displacement_vertical_rotation", 1),
        ("gripper_closedness_action", 1),
        ("rotation_delta", 3),
        ("terminate_episode", 3),
        ("world_vector", 3),
    ),
    gripper="relative",
    rotation="rpy",
)
"""All values of fractal20220817_data in alphabetical order of their names, as in Vid2World."""

WME10 = ActionLayout(
    name="wme10",
    fields=(
        ("world_vector", 3),
        ("rotation_delta", 3),
        ("gripper_closedness_action", 1),
        ("base_displacement_vector", 2),
        ("base_displacement_vertical_rotation", 1),
    ),
    gripper="relative",
    rotation="rpy",
)
"""The ten values of world-model-eval's recordings."""

OXE7 = ActionLayout(
    name="oxe7",
    fields=(("world_vector", 3), ("rotation_delta", 3), ("gripper_closedness_action", 1)),
    gripper="absolute",
    rotation="rpy",
)
"""The seven values that Octo, OpenVLA and their like give: hand, rotation, gripper (1 open)."""

DROID8 = ActionLayout(
    "droid8",
    (("joint_velocity", 7), ("gripper_closedness_action", 1)),
    gripper="closedness",
)
"""The eight values of openpi's DROID policies, for robots that are driven by their joints."""

CSGO51 = ActionLayout(
    "csgo51",
    (("keys", 11), ("left_click", 1), ("right_click", 1), ("mouse_x", 23), ("mouse_y", 15)),
)
RECON3 = ActionLayout("recon3", (("displacement_x", 1), ("displacement_y", 1), ("yaw_change", 1)))

LAYOUTS: Mapping[str, ActionLayout] = {
    layout.name: layout for layout in (FRACTAL13, WME10, OXE7, DROID8, CSGO51, RECON3)
}
