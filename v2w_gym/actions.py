"""What an environment does with the actions it is given: one rule for every environment."""

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ENDINGS, ClippedActions, RobotSpec


class ActionRule:
    """Fits actions to a robot, says once what it had to change, and refuses what cannot be meant.

    A wrong shape and what is not finite are always errors.
    """

    def __init__(self, robot: RobotSpec, *, strict: bool, terminate: str) -> None:
        """Choose how actions are taken.

        Args:
            robot: Who executes them.
            strict: Refuse values outside the bounds instead of clipping them.
            terminate: What an action that asks to end the attempt does: "stop" or "ignore".

        Raises:
            ValueError: An unknown `terminate`, or a `strict` that is not True or False.
        """
        if not isinstance(strict, bool):
            raise ValueError(f"expected strict_actions to be True or False, found {strict!r}")
        self._robot = robot
        self._strict = strict
        self._ignores_endings = lookup(ENDINGS, terminate, "terminate")
        self._warned = False

    def fit(self, actions: NDArray[np.float32]) -> ClippedActions:
        """Return actions (B, A) as the robot executes them.

        Raises:
            ValueError: Wrong shape, not finite, or, where that is strict, outside the bounds.
        """
        if self._strict:
            actions = self._robot.check_actions(actions)
        fitted = self._robot.clip_actions(actions)
        if fitted.clipped.any():
            self._warn(np.asarray(actions, np.float32), fitted)
        if self._ignores_endings:
            return replace(fitted, actions=self._robot.ignore_endings(fitted.actions))
        return fitted

    def fit_one(self, action: NDArray[np.float32]) -> ClippedActions:
        """Return one action (A,) as the robot executes it, as a batch of one.

        Raises:
            ValueError: As `fit`.
        """
        return self.fit(to_numbers(action, (self._robot.action_size,))[None])

    def _warn(self, actions: NDArray[np.float32], fitted: ClippedActions) -> None:
        """Say once what was clipped: `info` counts the rest."""
        if self._warned:
            return
        self._warned = True
        row, column = (int(i) for i in np.argwhere(fitted.clipped)[0])
        warnings.warn(
            f"an action outside the bounds of robot {self._robot.name!r} is clipped: "
            f"{self._robot.value_names[column]} = {actions[row, column]:g}, not in "
            f"[{self._robot.low[column]:g}, {self._robot.high[column]:g}]. Further ones are "
            "counted in info['actions_clipped']; strict_actions=True refuses them",
            stacklevel=4,
        )


def to_numbers(action: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return what a policy gave as float32 numbers of a shape.

    Raises:
        ValueError: No numbers, or another shape.
    """
    what = "an action" if len(shape) == 1 else "actions"
    try:
        numbers = np.asarray(action, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {what} of shape {shape}, found no numbers: {error}") from error
    if numbers.shape != shape:
        raise ValueError(f"expected {what} of shape {shape}, found {numbers.shape}")
    return numbers
