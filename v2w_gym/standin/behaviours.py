"""Scripted behaviours for recording episodes: experts, noisy experts, and failures.

A world model that was trained on successes alone imagines success, so most behaviours can fail.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import HAND
from v2w_gym.configs.names import lookup
from v2w_gym.configs.tasks import TASKS
from v2w_gym.standin.drawer import drawer_task
from v2w_gym.standin.env import StandinEnv, make_expert

Action: TypeAlias = NDArray[np.float32]
Behaviour: TypeAlias = Callable[[StandinEnv, np.random.Generator], Callable[[], Action]]

NOISE = 0.45
"""Standard deviation of expert noise, as a fraction of the largest displacement."""
HANDLE = slice(4, 7)
"""The drawer handle's position in Meta-World's observation."""


def expert_action(env: StandinEnv, expert: Any, task: str, misaim: float | Action = 0.0) -> Action:
    """Return the expert's action (13,) for the simulator's state, aimed `misaim` metres off."""
    observation = env.simulator_observation.copy()
    observation[HANDLE] += misaim
    raw = np.asarray(expert.get_action(observation), np.float32)
    reach = env.robot.high[env.robot.slices[HAND]]
    motion = np.clip(raw[:3] * drawer_task(task).expert_gain, -1, 1) * reach
    gripper = np.clip(np.clip(raw[3], -1, 1) - env.state.gripper, -1, 1)
    return env.robot.make_action(world_vector=motion, gripper_closedness_action=float(gripper))


def expert(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Act as the expert."""
    return _expert_of(env, env.task)


def noisy_expert(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Act as the expert with correlated noise of a strength drawn per episode."""
    act, noise = _expert_of(env, env.task), _noise(rng, NOISE * rng.uniform(0.3, 1.3))
    return lambda: _displaced(env, act(), noise())


def misaimed_expert(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Act as an expert that sees the handle 2 to 9 cm away from where it is."""
    direction = rng.normal(size=3)
    offset = direction / np.linalg.norm(direction) * rng.uniform(0.02, 0.09)
    return _expert_of(env, env.task, offset.astype(np.float32))


def missing_expert(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Act as an expert that sees the handle 8 to 30 cm to the side, and so passes it by."""
    sideways = rng.choice([-1, 1]) * rng.uniform(0.08, 0.30)
    offset = np.array([sideways, rng.uniform(-0.05, 0.05), 0.0], np.float32)
    act, noise = _expert_of(env, env.task, offset), _noise(rng, 0.2)
    return lambda: _displaced(env, act(), noise())


def undecided_expert(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Switch between the task and its opposite, every five steps on average."""
    experts = [_expert_of(env, env.task), _expert_of(env, drawer_task(env.task).opposite)]
    noise = _noise(rng, 0.2)

    def act() -> Action:
        if rng.random() < 0.2:
            experts.reverse()
        return _displaced(env, experts[0](), noise())

    return act


def other_task(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Act as the expert of the opposite task, with a little noise."""
    act, noise = _expert_of(env, drawer_task(env.task).opposite), _noise(rng, 0.2)
    return lambda: _displaced(env, act(), noise())


def there_and_back(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Solve the task, then undo it."""
    there, back = _expert_of(env, env.task), _expert_of(env, drawer_task(env.task).opposite)
    solved = False

    def act() -> Action:
        nonlocal solved
        solved = solved or env.solved
        return back() if solved else there()

    return act


def expert_then_noise(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Act as the expert until a random step, then as a random walk."""
    act, walk = _expert_of(env, env.task), random_walk(env, rng)
    steps_left = int(rng.integers(2, TASKS[env.task].horizon - 4))

    def choose() -> Action:
        nonlocal steps_left
        steps_left -= 1
        return act() if steps_left >= 0 else walk()

    return choose


def random_walk(env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Drift with correlated noise around a direction drawn per episode; the gripper is random."""
    noise = _noise(rng, 0.8)
    drift = rng.uniform(-0.6, 0.6, 3)

    def act() -> Action:
        gripper = float(rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1]))
        idle = env.robot.make_action(gripper_closedness_action=gripper)
        return _displaced(env, idle, noise() + drift)

    return act


BEHAVIOURS: Mapping[str, Behaviour] = {
    "expert": expert,
    "noisy_expert": noisy_expert,
    "misaimed_expert": misaimed_expert,
    "missing_expert": missing_expert,
    "undecided_expert": undecided_expert,
    "other_task": other_task,
    "there_and_back": there_and_back,
    "expert_then_noise": expert_then_noise,
    "random_walk": random_walk,
}


def make_behaviour(name: str, env: StandinEnv, rng: np.random.Generator) -> Callable[[], Action]:
    """Return a function that returns the next action (13,) for the environment's present state.

    Raises:
        ValueError: Unknown behaviour.
    """
    return lookup(BEHAVIOURS, name, "behaviour")(env, rng)


def _expert_of(env: StandinEnv, task: str, misaim: float | Action = 0.0) -> Callable[[], Action]:
    policy = make_expert(task)
    return lambda: expert_action(env, policy, task, misaim)


def _noise(rng: np.random.Generator, scale: float) -> Callable[[], NDArray[np.float64]]:
    """Return a sampler of Ornstein-Uhlenbeck noise (3,), correlated by 0.7 between steps."""
    value = rng.normal(size=3) * scale

    def draw() -> NDArray[np.float64]:
        nonlocal value
        value = 0.7 * value + np.sqrt(1 - 0.7**2) * scale * rng.normal(size=3)
        return value

    return draw


def _displaced(env: StandinEnv, action: Action, offset: NDArray[np.float64]) -> Action:
    """Add `offset`, in units of the largest displacement, to the action's motion."""
    motion = env.robot.slices[HAND]
    moved = action.copy()
    moved[motion] = np.clip(
        action[motion] + offset * env.robot.high[motion],
        env.robot.low[motion],
        env.robot.high[motion],
    )
    return moved
