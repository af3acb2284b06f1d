"""Actions of a policy's layout as a robot executes them."""

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
"""The fields that `CONVENTIONS` is about."""
PLAIN = ProcessingConfig()
SETTINGS = {"scale": HAND, "sticky": GRIPPER, "gripper_deadband": GRIPPER}
"""The fields that some settings are about."""
IMPOSSIBLE = "gripper position out of its range"
"""Nothing between open and closed: the policy's convention is probably another one."""
SLACK = 0.25
"""Share of the way between open and closed by which a position may miss both: a network's answer
and un-normalisation miss them by less, another convention by more."""
CHANGE = 0.5
"""An absolute gripper that moves by more than this opens or closes: then it is sent on."""


@dataclass(frozen=True)
class Gripper:
    """What a slot remembers of an absolute gripper.

    Attributes:
        position: Where the last action put it, 1 open, 0 closed; None before the first.
        change: The change of closedness that is being sent on.
        left: Steps for which it still is.
    """

    position: float | None = None
    change: float = 0.0
    left: int = 0


def check_layout(layout: ActionLayout, robot: RobotSpec) -> None:
    """Check that actions of `layout` can become the robot's.

    Raises:
        ValueError: A field that the robot lacks or has in another size, or a gripper or rotation
            of an unknown kind, or of any kind where the layout has none.
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
    """Check that settings are of something that the robot has.

    Raises:
        ValueError: They would change nothing.
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

    Fields that `layout` lacks are at rest. An axis times an angle becomes roll, pitch, yaw about
    fixed axes x, y, z, in this order, if the robot's own layout has them.
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
    """Return what the slot remembers now, and one action (A,) scaled and with a relative gripper.

    Args:
        gripper: What the slot remembers.
        action: (A,) in the robot's own order.
        kind: What the gripper's value is: "relative", "none", or one of `GRIPPER_RANGES`.
        robot: Who executes it.
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
    """Whether the gripper's value of an action (A,) is no position of its kind; see `SLACK`."""
    if kind not in GRIPPER_RANGES or GRIPPER not in robot.slices:
        return False
    ends, value = GRIPPER_RANGES[kind], float(action[robot.slices[GRIPPER].start])
    middle, reach = (ends.opened + ends.closed) / 2, abs(ends.opened - ends.closed)
    return abs(value - middle) > reach * (0.5 + SLACK)


def to_relative(gripper: Gripper, position: float, sticky: int) -> tuple[Gripper, float]:
    """Return what is remembered now, and the change of closedness that leads to `position`.

    A change by more than half the way is sent for `sticky` steps, whatever comes meanwhile; the
    Google robot's gripper needs so long. The first step changes nothing.

    Source: SimplerEnv, Octo and OpenVLA on google_robot.
    """
    change = 0.0 if gripper.position is None else gripper.position - position
    if gripper.left:
        return Gripper(position, gripper.change, gripper.left - 1), gripper.change
    if abs(change) > CHANGE:
        return Gripper(position, change, sticky - 1), change
    return Gripper(position), change


def ends_episode(action: Action, robot: RobotSpec) -> bool:
    """Whether an action (A,) asks to end the episode."""
    return bool(robot.terminates(action[None])[0])


def clip_to_bounds(action: Action, robot: RobotSpec) -> tuple[Action, tuple[str, ...]]:
    """Return the action (A,) that the robot executes, and what was changed; see `clip_actions`.

    Fields that this robot cannot move rest, and do not count: a policy made for another robot is
    not wrong to move them.
    """
    fitted = robot.clip_actions(action[None])
    changed = []
    if fitted.clipped[0, robot.low < robot.high].any():
        changed.append(CLIPPED)
    if fitted.not_one_hot[0]:
        changed.append(NOT_ONE_HOT)
    return fitted.actions[0], tuple(changed)


def _fits(layout: ActionLayout, robot: RobotSpec) -> bool:
    return not _missing(layout, robot)


def _missing(layout: ActionLayout, robot: RobotSpec) -> list[str]:
    """Return the fields of a layout that the robot lacks or has in another size."""
    own = {field.name: field.size for field in robot.fields}
    return [name for name, size in layout.fields if own.get(name) != size]
