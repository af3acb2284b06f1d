"""Where the hand should go next: waypoints in closed form, by what is seen now and nothing else.

Metres in the stand-in robot's frame: x across the drawer, y away from the robot, along its rail, z
up. The handle is a bar that sticks out towards the robot; opening hooks it from above and behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.tasks import TASKS

Vector: TypeAlias = NDArray[np.float64]

HANDLE_CLOSED_Y = 0.73
"""Where the handle is along the rail when the drawer is shut."""
ASIDE = 0.03
"""Sideways distance within which the hand meets the handle."""
HOOK_Y, HOOK_Z = 0.008, 0.07
"""How far behind the handle, and at which height, the hand hooks it."""
BEHIND = (-0.035, 0.03)
"""Range of the hand behind the handle, along the rail, in which it may go down or pull."""
OVER_Z = 0.17
"""Height at which the hand passes over the handle."""
CLEAR = 0.11
"""How far in front of the handle the hand may be below that height."""
PUSH_Y, PUSH_Z = -0.06, 0.09
"""Where the hand waits before it pushes: in front of the handle, at the handle's height."""
LEVEL = 0.04
"""How far from its height the hand may be to pull, push or cross."""
STROKE = 0.05
"""How far ahead the target lies while the hand pulls or pushes."""
OPENED, CLOSED = 0.15, 0.01
"""Openings at which the hand may rest."""


@dataclass(frozen=True)
class Scene:
    """What must be seen of the world to plan in it, in metres.

    Attributes:
        hand: (3,) position of the hand.
        handle_x: Sideways position of the drawer's handle.
        opening: How far the drawer is open.
    """

    hand: Vector
    handle_x: float
    opening: float

    @property
    def handle_y(self) -> float:
        """Where the handle is along the rail."""
        return HANDLE_CLOSED_Y - self.opening


Plan: TypeAlias = Callable[[Scene], Vector]
"""What is seen -> where the hand should go (3,)."""


def open_drawer(scene: Scene) -> Vector:
    """Return where the hand should go (3,): over the handle, down behind it, then pull."""
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
    """Return where the hand should go (3,): in front of the handle, then push."""
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
"""What to do for each instruction, written as `v2w_gym.policies.instructions.normalise` writes
it."""
