"""Actions to RT-1's 256-bin tokens and back."""

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import GRIPPER, HAND, ROTATION
from v2w_gym.configs.robots import TERMINATE, RobotSpec

TOKEN_ORDER = (
    TERMINATE,
    HAND,
    ROTATION,
    GRIPPER,
    "base_displacement_vertical_rotation",
    "base_displacement_vector",
)
"""The fields in the order of their tokens. Source: RT-1's public JAX release."""
MODES = 3
"""What the terminate token may say: end the episode, move the arm, move the base."""
ON_EDGE = 1e-4
"""Share of a bin by which a value may miss the bin's lower edge and still be in it.

A decoded value lies on that edge, and float32 puts half of them just below it. They would be
encoded one token lower: RT-1's own code does so to a quarter of its tokens.
"""


class ActionTokenizer:
    """Turns each action value into a token; the one-hot terminate field becomes one token.

    Bins are cut with floor over 255 intervals, as RT-1 does it, so a decoded value lies up to one
    bin below the value that was encoded: zero in [-1, 1] comes back as -0.0039. Every token
    survives decoding and encoding, so a recorded rollout of RT-1 has the tokens that RT-1 chose.

    Attributes:
        free: (tokens,) bool; False where the robot cannot move, so that the token means nothing.
    """

    def __init__(self, robot: RobotSpec, bins: int = 256) -> None:
        """Read bounds and order from the robot.

        Raises:
            ValueError: A robot without RT-1's fields, or fewer bins than the terminate token needs.
        """
        if bins < MODES:
            raise ValueError(f"expected at least {MODES} bins, found {bins}")
        if set(robot.slices) != set(TOKEN_ORDER):
            raise ValueError(
                f"expected a robot with the RT-1 fields {sorted(TOKEN_ORDER)}, found "
                f"{robot.name!r} with {sorted(robot.slices)}"
            )
        self.robot = robot
        self.bins = bins
        self._terminate = robot.slices[TERMINATE]
        self._columns = np.concatenate(
            [np.arange(robot.action_size)[robot.slices[name]] for name in TOKEN_ORDER[1:]]
        )
        self._low = robot.low[self._columns].astype(np.float64)
        self._range = robot.high[self._columns] - self._low
        self.free = np.concatenate([[True], self._range > 0])

    def __len__(self) -> int:
        """Return the number of tokens of one action."""
        return 1 + len(self._columns)

    def encode(self, actions: NDArray[np.float32]) -> NDArray[np.int64]:
        """Turn actions (..., A) into tokens (..., len(self)); values are clipped to the bounds.

        Raises:
            ValueError: An action that does not say one-hot whether it ends the episode, as RT-1
                refuses it too; one of another size; or a value that is not finite.
        """
        given = np.reshape(actions, (-1, np.shape(actions)[-1]))
        fitted = self.robot.clip_actions(given)
        if fitted.not_one_hot.any():
            row = int(np.argmax(fitted.not_one_hot))
            raise ValueError(
                f"expected a one-hot {TERMINATE} (end, arm, base) in every action, found "
                f"{given[row, self._terminate].tolist()} in row {row}; "
                "RobotSpec.clip_actions takes it as not said"
            )
        share = (fitted.actions[:, self._columns] - self._low) / np.where(
            self.free[1:], self._range, 1
        )
        motion = np.floor(share * (self.bins - 1) + ON_EDGE).astype(np.int64)
        mode = np.argmax(fitted.actions[:, self._terminate], axis=-1)[:, None]
        tokens = np.concatenate([mode, motion], axis=-1)
        return tokens.reshape(*np.shape(actions)[:-1], len(self))

    def decode(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Turn tokens (..., len(self)) into actions (..., A).

        A terminate token beyond the three modes means "terminate", as in RT-1.

        Raises:
            ValueError: A number that is no token.
        """
        if ((tokens < 0) | (tokens >= self.bins)).any():
            raise ValueError(
                f"expected tokens from 0 to {self.bins - 1}, found {int(tokens.min())} to "
                f"{int(tokens.max())}; the network and the robot's tokenizer must have as many bins"
            )
        mode = np.where(tokens[..., 0] < MODES, tokens[..., 0], 0)
        motion = tokens[..., 1:] / (self.bins - 1) * self._range + self._low
        actions = np.zeros((*tokens.shape[:-1], self.robot.action_size), np.float32)
        actions[..., self._terminate] = np.eye(MODES, dtype=np.float32)[mode]
        actions[..., self._columns] = motion
        return np.clip(actions, self.robot.low, self.robot.high)
