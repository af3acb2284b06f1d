"""TorchRL on our environments; prints its observations as JSON."""

import json

import gymnasium as gym
import torch
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper
from torchrl.envs.utils import check_env_specs

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast

REST = torch.from_numpy(STANDIN_SAWYER.make_action())
END = torch.from_numpy(STANDIN_SAWYER.make_action(terminate_episode=(1, 0, 0)))


def vector(max_episode_steps):
    model = CopyLast(STANDIN_SAWYER)
    return GymWrapper(
        Vid2WorldVectorEnv(2, max_episode_steps, model, start=3, autoreset_mode="Disabled")
    )


def scalar():
    env = GymWrapper(gym.wrappers.TimeLimit(Vid2WorldEnv(CopyLast(STANDIN_SAWYER)), 6))
    check_env_specs(env)
    rollout = env.rollout(12, policy=lambda observation: REST)
    return len(rollout), rollout["next", "truncated"].flatten().tolist()


def stepped():
    """Which slots end in which step; slot 0 asks to end in the third."""
    env = vector(5)
    env.set_seed(0)
    data, ends = env.reset(), []
    for step in range(8):
        data["action"] = torch.stack([END if step == 2 else REST, REST])
        data, following = env.step_and_maybe_reset(data)
        ends.append(data["next", "done"].flatten().int().tolist())
        data = following
    return ends


def collected():
    def rest(tensordict):  # TorchRL tells by this name what a function takes
        return tensordict.set("action", torch.stack([REST] * 2))

    batch = next(iter(Collector(vector(4), rest, frames_per_batch=20, total_frames=20)))
    return batch["next", "done"][..., 0].int().tolist()


if __name__ == "__main__":
    print(json.dumps({"scalar": scalar(), "stepped": stepped(), "collected": collected()}))
