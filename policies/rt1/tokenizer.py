"""Convert actions to RT-1's 256-bin tokens and back."""

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
"""Values of the terminate token: end the episode, move the arm, move the base."""
ON_EDGE = 1e-4
"""Share of a bin by which a value may lie below the bin's lower edge and still be in it.

A decoded value lies on that edge, and float32 rounds half of them to just below it. Without the
tolerance they would be encoded one token lower, which happens to a quarter of the tokens in RT-1's
own code.
"""


class ActionTokenizer:
    """Turns each action value into a token; the one-hot terminate field becomes one token.

    As in RT-1, a token is the floor over 255 intervals, so a decoded value lies up to one bin below
    the encoded value. For example, zero in [-1, 1] becomes -0.0039. Decoding and encoding returns
    the same token, so a recorded rollout of RT-1 has the tokens that RT-1 chose.

    Attributes:
        free: (tokens,) bool; False for values that the robot cannot move, whose tokens are ignored.
    """

    def __init__(self, robot: RobotSpec, bins: int = 256) -> None:
        """Read bounds and order from the robot.

        Raises:
            ValueError: The robot lacks RT-1's fields, or the bins are too few for the terminate
                token.
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
            ValueError: An action has no one-hot terminate field (an error in RT-1 too), another
                size, or a value that is not finite.
        """
        given = np.reshape(actions, (-1, np.shape(actions)[-1]))
        clipped = self.robot.clip_actions(given)
        if clipped.not_one_hot.any():
            row = int(np.argmax(clipped.not_one_hot))
            raise ValueError(
                f"expected a one-hot {TERMINATE} (end, arm, base) in every action, found "
                f"{given[row, self._terminate].tolist()} in row {row}; "
                "RobotSpec.clip_actions sets such a field to rest"
            )
        # token = floor(255 (value - low) / (high - low))
        share = (clipped.actions[:, self._columns] - self._low) / np.where(
            self.free[1:], self._range, 1
        )
        motion = np.floor(share * (self.bins - 1) + ON_EDGE).astype(np.int64)
        mode = np.argmax(clipped.actions[:, self._terminate], axis=-1)[:, None]
        tokens = np.concatenate([mode, motion], axis=-1)
        return tokens.reshape(*np.shape(actions)[:-1], len(self))

    def decode(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Turn tokens (..., len(self)) into actions (..., A).

        A terminate token beyond the three modes means "terminate", as in RT-1.

        Raises:
            ValueError: A token is out of range.
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
