"""The planner's controller: the hand's next waypoint as a function of the present scene alone.

Coordinates are metres in the stand-in robot's frame: x across the drawer, y along its rail and away
from the robot, z up. The handle is a bar that sticks out towards the robot. To open the drawer, the
hand hooks the bar from above and behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.tasks import TASKS

Vector: TypeAlias = NDArray[np.float64]

HANDLE_CLOSED_Y = 0.73
"""Position of the handle along the rail when the drawer is shut."""
ASIDE = 0.03
"""Sideways distance within which the hand meets the handle."""
HOOK_Y, HOOK_Z = 0.008, 0.07
"""Distance behind the handle, and height, at which the hand hooks it."""
BEHIND = (-0.035, 0.03)
"""Range of the hand behind the handle, along the rail, in which it may go down or pull."""
OVER_Z = 0.17
"""Height at which the hand passes over the handle."""
CLEAR = 0.11
"""Distance in front of the handle up to which a low hand must rise before it crosses the handle."""
PUSH_Y, PUSH_Z = -0.06, 0.09
"""Position before a push: in front of the handle, at the handle's height."""
LEVEL = 0.04
"""Largest height error with which the hand may pull, push or cross."""
STROKE = 0.05
"""Distance from the hand to its target while it pulls or pushes."""
OPENED, CLOSED = 0.15, 0.01
"""Openings at which the hand may rest."""


@dataclass(frozen=True)
class Scene:
    """The positions that the controller needs, in metres.

    Attributes:
        hand: (3,) position of the hand.
        handle_x: Sideways position of the drawer's handle.
        opening: Opening of the drawer.
    """

    hand: Vector
    handle_x: float
    opening: float

    @property
    def handle_y(self) -> float:
        """Position of the handle along the rail."""
        return HANDLE_CLOSED_Y - self.opening


Plan: TypeAlias = Callable[[Scene], Vector]
"""Scene -> the hand's next waypoint (3,)."""


def open_drawer(scene: Scene) -> Vector:
    """Return the next waypoint (3,): over the handle, down behind it, then pull."""
    x, y, z = scene.hand
    hook = np.array([scene.handle_x, scene.handle_y + HOOK_Y, HOOK_Z])
    behind = y - scene.handle_y
    if scene.opening >= OPENED:
        return scene.hand
    over = np.array([hook[0], hook[1], OVER_Z])
    if abs(x - hook[0]) > ASIDE or not BEHIND[0] <= behind <= BEHIND[1]:
        rising = z < OVER_Z - LEVEL and behind > -CLEAR
        return np.array([x, y, OVER_Z]) if rising else over
    if z > HOOK_Z + LEVEL:
        return hook
    return np.array([hook[0], y - STROKE, HOOK_Z])


def close_drawer(scene: Scene) -> Vector:
    """Return the next waypoint (3,): in front of the handle, then push."""
    x, y, z = scene.hand
    if scene.opening <= CLOSED:
        return scene.hand
    if abs(x - scene.handle_x) > ASIDE or z > PUSH_Z + LEVEL:
        return np.array([scene.handle_x, min(y, scene.handle_y + PUSH_Y), PUSH_Z])
    return np.array([scene.handle_x, y + STROKE, PUSH_Z])


PLANS: Mapping[str, Plan] = {
    TASKS["close_drawer"].instruction: close_drawer,
    TASKS["open_drawer"].instruction: open_drawer,
}
"""Instruction, normalised by `v2w_gym.policies.instructions.normalise` -> plan."""
