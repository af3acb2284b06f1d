"""Convert actions from a policy's layout to a robot's."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from v2w_gym.configs.action_layouts import (
    CONVENTIONS,
    GRIPPER,
    GRIPPER_RANGES,
    HAND,
    ROTATION,
    ActionLayout,
)
from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.configs.robots import ACTION_LAYOUTS, RobotSpec

Action = NDArray[np.float32]

CLIPPED = "clipped to the robot's bounds"
NOT_ONE_HOT = "not one-hot, taken as not said"
FIELDS = {"gripper": GRIPPER, "rotation": ROTATION}
"""Name in `CONVENTIONS` -> field of an action."""
PLAIN = ProcessingConfig()
SETTINGS = {"scale": HAND, "sticky": GRIPPER, "gripper_deadband": GRIPPER}
"""Setting -> the field that it changes."""
IMPOSSIBLE = "gripper position out of its range"
"""Event: the value is not between open and closed, so the convention is probably wrong."""
SLACK = 0.25
"""Share of the range from open to closed by which a position may lie outside it. A network's output
lies outside by less, a wrong convention by more."""
CHANGE = 0.5
"""An absolute gripper that moves by more than this opens or closes; see `to_relative`."""


@dataclass(frozen=True)
class Gripper:
    """The state of an absolute gripper in one slot.

    Attributes:
        position: Position after the last action, 1 open, 0 closed; None before the first.
        change: The change of closedness that is being repeated.
        left: Steps for which it is still repeated.
    """

    position: float | None = None
    change: float = 0.0
    left: int = 0


def check_layout(layout: ActionLayout, robot: RobotSpec) -> None:
    """Check that actions of `layout` can be converted to the robot's.

    Raises:
        ValueError: The robot lacks a field or has it in another size, or the gripper or rotation
            convention is unknown or names a field that the layout lacks.
    """
    if not _fits(layout, robot):
        known = [name for name, other in ACTION_LAYOUTS.items() if _fits(other, robot)]
        raise ValueError(
            f"expected a policy whose layout is one of {known} for robot {robot.name!r}, found "
            f"{layout.name!r}; its {_missing(layout, robot)} have no counterpart in "
            f"{robot.action_layout.name!r}"
        )
    for name, kinds in CONVENTIONS.items():
        kind = getattr(layout, name)
        if kind not in kinds:
            raise ValueError(f"expected a {name} of one of the kinds {kinds}, found {kind!r}")
        if kind != "none" and FIELDS[name] not in layout.slices:
            raise ValueError(
                f"expected no {name} for layout {layout.name!r}, which has no {FIELDS[name]}, "
                f"found {kind!r}; leave it out"
            )


def check_settings(cfg: ProcessingConfig, robot: RobotSpec) -> None:
    """Check that the robot has the fields that the settings change.

    Raises:
        ValueError: A setting would have no effect.
    """
    for name, needed in SETTINGS.items():
        if getattr(cfg, name) != getattr(PLAIN, name) and needed not in robot.slices:
            raise ValueError(
                f"expected no {name} for robot {robot.name!r}, which has no {needed}, found "
                f"{getattr(cfg, name)}; leave it out"
            )


def to_robot_layout(
    actions: NDArray[np.float32], layout: ActionLayout, robot: RobotSpec
) -> NDArray[np.float32]:
    """Return actions (..., D) of `layout` in the robot's own order (..., A).

    Fields that `layout` lacks are at rest. An axis-angle rotation becomes roll, pitch and yaw about
    the fixed axes x, y, z, in this order, if the robot's own layout uses them.
    """
    moved = np.broadcast_to(robot.make_action(), (*actions.shape[:-1], robot.action_size)).copy()
    for name, place in layout.slices.items():
        moved[..., robot.slices[name]] = actions[..., place]
    if layout.rotation == "axis_angle" and robot.action_layout.rotation == "rpy":
        place = robot.slices[ROTATION]
        turns = Rotation.from_rotvec(moved[..., place].reshape(-1, 3).astype(np.float64))
        moved[..., place] = turns.as_euler("xyz").reshape(moved[..., place].shape)
    return moved


def to_robot(
    gripper: Gripper, action: Action, kind: str, robot: RobotSpec, cfg: ProcessingConfig
) -> tuple[Gripper, Action]:
    """Return the gripper's new state, and an action (A,), scaled, with a relative gripper.

    Args:
        gripper: The gripper's state in this slot.
        action: (A,) in the robot's own order.
        kind: Convention of the gripper's value: "relative", "none", or one of `GRIPPER_RANGES`.
        robot: The robot that executes the action.
        cfg: Scale, stickiness and deadband.
    """
    action = action.copy()
    if HAND in robot.slices:
        action[robot.slices[HAND]] *= np.float32(cfg.scale)
    if GRIPPER in robot.slices:
        place = robot.slices[GRIPPER].start
        value = float(action[place])
        if kind in GRIPPER_RANGES:
            gripper, value = to_relative(gripper, to_opening(value, kind), cfg.sticky)
        action[place] = 0 if kind == "none" or abs(value) < cfg.gripper_deadband else value
    return gripper, action


def to_opening(value: float, kind: str) -> float:
    """Return how far the gripper is open, from 0 to 1; values beyond both ends are clipped."""
    ends = GRIPPER_RANGES[kind]
    return min(max((value - ends.closed) / (ends.opened - ends.closed), 0.0), 1.0)


def is_impossible(action: Action, kind: str, robot: RobotSpec) -> bool:
    """Whether the gripper value of an action (A,) is outside the range of its kind; see `SLACK`."""
    if kind not in GRIPPER_RANGES or GRIPPER not in robot.slices:
        return False
    ends, value = GRIPPER_RANGES[kind], float(action[robot.slices[GRIPPER].start])
    middle, reach = (ends.opened + ends.closed) / 2, abs(ends.opened - ends.closed)
    return abs(value - middle) > reach * (0.5 + SLACK)


def to_relative(gripper: Gripper, position: float, sticky: int) -> tuple[Gripper, float]:
    """Return the gripper's new state, and the change of closedness that leads to `position`.

    A change of more than `CHANGE` is repeated for `sticky` steps, and other changes are ignored
    meanwhile, because the Google robot's gripper is slow. The first step changes nothing.

    Source: SimplerEnv, Octo and OpenVLA on google_robot.
    """
    change = 0.0 if gripper.position is None else gripper.position - position
    if gripper.left:
        return Gripper(position, gripper.change, gripper.left - 1), gripper.change
    if abs(change) > CHANGE:
        return Gripper(position, change, sticky - 1), change
    return Gripper(position), change


def ends_episode(action: Action, robot: RobotSpec) -> bool:
    """Whether an action (A,) ends the episode."""
    return bool(robot.terminates(action[None])[0])


def clip_to_bounds(action: Action, robot: RobotSpec) -> tuple[Action, tuple[str, ...]]:
    """Return the action (A,) that the robot executes, and the events; see `clip_actions`.

    Fields that this robot cannot move stay at rest without an event, because a policy for another
    robot may move them.
    """
    clipped = robot.clip_actions(action[None])
    changed = []
    if clipped.clipped[0, robot.low < robot.high].any():
        changed.append(CLIPPED)
    if clipped.not_one_hot[0]:
        changed.append(NOT_ONE_HOT)
    return clipped.actions[0], tuple(changed)


def _fits(layout: ActionLayout, robot: RobotSpec) -> bool:
    return not _missing(layout, robot)


def _missing(layout: ActionLayout, robot: RobotSpec) -> list[str]:
    """Return the fields of a layout that the robot lacks or has in another size."""
    own = {field.name: field.size for field in robot.fields}
    return [name for name, size in layout.fields if own.get(name) != size]
