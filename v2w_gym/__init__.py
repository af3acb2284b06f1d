"""Robots behind Gymnasium's interface: some imagined by a world model, one simulated by physics.

Importing this package registers the environments and loads neither torch nor a simulator.
"""

import gymnasium as gym

from v2w_gym.forks import calm_threads_after_fork
from v2w_gym.tasks import tasks_of

calm_threads_after_fork()  # Gymnasium's AsyncVectorEnv and SB3's SubprocVecEnv fork

DOMAINS = {
    "Vid2World-RT1-v0": ["standin_sawyer", "google_robot"],
    "Vid2World-CSGO-v0": ["csgo_player"],
    "Vid2World-RECON-v0": ["recon_jackal"],
}
"""Environment id -> the robots it is for, which share their tasks."""

for _id, _robots in DOMAINS.items():
    _tasks = tasks_of(_robots[0])
    gym.register(
        id=_id,
        entry_point="v2w_gym.env:Vid2WorldEnv",
        vector_entry_point="v2w_gym.vector_env:Vid2WorldVectorEnv",
        max_episode_steps=max(task.horizon for task in _tasks.values()),
        kwargs={"task": next(iter(_tasks)), "robots": _robots},
    )

gym.register(
    id="StandinSawyer-v0",
    entry_point="v2w_gym.standin:StandinEnv",
    max_episode_steps=max(task.horizon for task in tasks_of("standin_sawyer").values()),
)
