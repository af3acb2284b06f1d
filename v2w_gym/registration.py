"""Which environments Gymnasium knows by id, and which robots each is for."""

import gymnasium as gym

from v2w_gym.tasks import tasks_of

DOMAINS = {
    "Vid2World-RT1-v0": ["standin_sawyer", "google_robot"],
    "Vid2World-CSGO-v0": ["csgo_player"],
    "Vid2World-RECON-v0": ["recon_jackal"],
}
"""Environment id -> the robots it is for, which share their tasks."""


def register_environments() -> None:
    """Make `gym.make` know the ids; this loads neither torch nor a simulator."""
    for name, robots in DOMAINS.items():
        tasks = tasks_of(robots[0])
        gym.register(
            id=name,
            entry_point="v2w_gym.env:Vid2WorldEnv",
            vector_entry_point="v2w_gym.vector_env:Vid2WorldVectorEnv",
            max_episode_steps=max(task.horizon for task in tasks.values()),
            kwargs={"task": next(iter(tasks)), "robots": robots},
        )
    gym.register(
        id="StandinSawyer-v0",
        entry_point="v2w_gym.standin.env:StandinEnv",
        max_episode_steps=max(task.horizon for task in tasks_of("standin_sawyer").values()),
    )
