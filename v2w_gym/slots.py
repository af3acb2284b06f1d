"""One slot of the vector environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from v2w_gym.actions import ActionRule
from v2w_gym.attempts import Attempt
from v2w_gym.configs.names import hint
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.progress import RolloutKey


class Slot(Vid2WorldEnv):
    """The scalar environment with a time limit of its own.

    The vector environment steps all its slots with one call of the world model, and uses what is
    public here. Alone, a slot does what the scalar environment in Gymnasium's `TimeLimit` does.
    """

    _max_episode_steps = -1
    """Steps after which an attempt is truncated, -1 for no limit; `TimeLimit` calls it so too."""

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Imagine what the camera sees after `action` (A,); see `Vid2WorldEnv.step`."""
        if self.attempt.place is None:
            raise gym.error.ResetNeeded("expected reset() of a slot that is over before step()")
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.truncated, info

    def get_wrapper_attr(self, name: str) -> Any:
        """Return an attribute.

        Raises:
            AttributeError: An unknown one.
        """
        if hasattr(self, name):
            return getattr(self, name)
        known = [each for each in dir(self) if not each.startswith("__")]
        raise AttributeError(
            f"expected an attribute of Vid2WorldEnv, found {name!r}{hint(name, known)}"
        )

    @property
    def attempt(self) -> Attempt:
        """The present attempt.

        Raises:
            gymnasium.error.ResetNeeded: No reset yet.
        """
        return self._begun()

    @attempt.setter
    def attempt(self, attempt: Attempt) -> None:
        self._attempt = attempt

    @property
    def truncated(self) -> bool:
        """Whether time has run out."""
        limit = self._max_episode_steps
        return limit != -1 and self.attempt.steps >= limit

    @property
    def over(self) -> bool:
        """Whether the present attempt has ended."""
        return self.attempt.terminated or self.truncated

    @property
    def observation(self) -> Any:
        """What the policy sees now."""
        return self._observation()

    @property
    def info(self) -> dict[str, Any]:
        """What is told besides."""
        return self._info()

    @property
    def rule(self) -> ActionRule:
        """What becomes of actions."""
        return self._rule

    @property
    def defaults(self) -> dict[str, Any]:
        """What the next attempt is, unless a reset says otherwise."""
        return {"task": self.setting.task, "start": self.setting.start}

    def next_key(self, seed: int | None) -> RolloutKey:
        """Return the key of the next attempt."""
        return self._next_key(seed)

    def begin(self, attempt: Attempt) -> None:
        """Begin an attempt."""
        self._begin(attempt)
