"""Register the environments with Gymnasium."""

import gymnasium as gym

from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.tasks import tasks_of

DOMAINS = {
    f"Vid2World-{domain}-v0": [robot.name for robot in ROBOTS.values() if robot.domain == domain]
    for domain in dict.fromkeys(robot.domain for robot in ROBOTS.values())
}
"""Environment id -> its robots, which share their tasks."""


def register_environments() -> None:
    """Register all environment ids without importing torch or a simulator.

    Raises:
        ValueError: A robot without a task.
    """
    for name, robots in DOMAINS.items():
        tasks = tasks_of(robots[0])
        if not tasks:
            raise ValueError(
                f"expected a task of robot {robots[0]!r} in configs/tasks.py, found none; add a "
                f"task for {name}"
            )
        gym.register(
            id=name,
            entry_point="v2w_gym.env:Vid2WorldEnv",
            vector_entry_point="v2w_gym.vector_env:Vid2WorldVectorEnv",
            max_episode_steps=max(task.horizon for task in tasks.values()),
            kwargs={"robots": robots},
        )
    gym.register(
        id="StandinSawyer-v0",
        entry_point="v2w_gym.standin.env:StandinEnv",
        max_episode_steps=max(task.horizon for task in tasks_of("standin_sawyer").values()),
    )
