"""Robots behind Gymnasium's interface: one imagined by a world model, one simulated by physics.

Importing this package registers the environments and loads neither torch nor a simulator.
"""

import gymnasium as gym

from v2w_gym.tasks import TASKS

HORIZON = max(task.horizon for task in TASKS.values())

gym.register(
    id="Vid2World-RT1-v0",
    entry_point="v2w_gym.env:Vid2WorldEnv",
    vector_entry_point="v2w_gym.vector_env:Vid2WorldVectorEnv",
    max_episode_steps=HORIZON,
)
gym.register(
    id="StandinSawyer-v0",
    entry_point="v2w_gym.standin:StandinEnv",
    max_episode_steps=HORIZON,
)
