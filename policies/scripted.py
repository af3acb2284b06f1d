"""Policies that ignore their frames: rest, random actions, and a recorded episode."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import GRIPPER, HAND
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.world_models.data.fit import fit_episode
from v2w_gym.world_models.data.recorded_actions import warn_of
from v2w_gym.world_models.data.sources.opening import read_one

Action: TypeAlias = NDArray[np.float32]
Choose: TypeAlias = Callable[[int, int], Action]
"""Seed of a slot and its number of steps so far -> the next action (A,)."""

RANDOM_FIELDS = (HAND, GRIPPER)
RANDOM_KEY = 0x72616E64
"""Separates these random numbers from others with the same seeds."""


class ScriptedPolicy:
    """A policy whose actions depend on the slot's seed and step alone."""

    def __init__(self, name: str, robot: RobotSpec, choose: Choose) -> None:
        """Make a policy that returns `choose(seed, step)`."""
        self.meta = PolicyMeta(name, robot.action_layout.name)
        self._robot = robot
        self._choose = choose
        self._seeds: list[int] = []
        self._steps: list[int] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; any instruction is accepted."""
        check_reset(self.meta, instructions, seeds, slots, len(self._seeds))
        self._seeds = renew(self._seeds, seeds, slots)
        self._steps = renew(self._steps, [0] * len(seeds), slots)

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        check_frames(self.meta, len(self._seeds), frames, active)
        actions = np.tile(self._robot.make_action(), (len(frames), 1, 1))
        for slot in np.flatnonzero(active):
            actions[slot] = self._choose(self._seeds[slot], self._steps[slot])
            self._steps[slot] += 1
        return ActionBatch(actions)

    def close(self) -> None:
        """See `Policy.close`."""


def zero_policy(robot: RobotSpec) -> ScriptedPolicy:
    """Return a policy that never moves."""
    return ScriptedPolicy("zero", robot, lambda seed, step: robot.make_action())


def random_policy(robot: RobotSpec) -> ScriptedPolicy:
    """Return a policy that moves hand and gripper at random, uniformly within the robot's bounds.

    Raises:
        ValueError: The robot has no hand or no gripper.
    """
    if not set(RANDOM_FIELDS) <= set(robot.slices):
        raise ValueError(f"expected a robot with {RANDOM_FIELDS}, found {robot.name!r}")

    def choose(seed: int, step: int) -> Action:
        rng = np.random.default_rng([RANDOM_KEY, seed, step])
        anywhere = rng.uniform(robot.low, robot.high).astype(np.float32)
        return robot.make_action(**{name: anywhere[robot.slices[name]] for name in RANDOM_FIELDS})

    return ScriptedPolicy("random", robot, choose)


def replay_policy(recording: str, robot: RobotSpec) -> ScriptedPolicy:
    """Return a policy that repeats a recorded episode's actions, then rests.

    Args:
        recording: The episode; see `read_one`.
        robot: The robot.

    Raises:
        FileNotFoundError: No such file or folder.
        ValueError: No episode, or an episode of another robot.
    """
    fitted = fit_episode(read_one(recording), robot, origin=recording)
    warn_of(fitted.misfits, recording)
    actions = fitted.actions

    def choose(seed: int, step: int) -> Action:
        return actions[step] if step < len(actions) else robot.make_action()

    policy = ScriptedPolicy("replay", robot, choose)
    policy.meta = replace(policy.meta, fingerprint=sha256(actions.tobytes()).hexdigest())
    return policy
