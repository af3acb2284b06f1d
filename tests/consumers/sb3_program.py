"""Stable-Baselines3 on our environments; prints what it reports as JSON."""

import json

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

import v2w_gym  # noqa: F401
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.world_models.copy_last import CopyLast


class Judge:
    """Calls the task solved from the third step on."""

    def success(self, frames, task):
        return np.array([frames.shape[1] >= 4] * len(frames))


class Fixed:
    """Always takes one action."""

    def __init__(self, action):
        self.action = action

    def predict(self, observations, state=None, episode_start=None, deterministic=True):
        return np.stack([self.action] * len(observations)), state


def one(judge=None, terminate="stop"):
    env = Vid2WorldEnv(CopyLast(STANDIN_SAWYER), judge=judge, terminate=terminate)
    return gym.wrappers.TimeLimit(env, 10)


def evaluated():
    solved = []
    envs = make_vec_env(lambda: one(Judge()), n_envs=3, seed=1)
    rewards, lengths = evaluate_policy(
        Fixed(STANDIN_SAWYER.make_action()),
        envs,
        n_eval_episodes=7,
        return_episode_rewards=True,
        callback=lambda step, _: solved.append(step["info"]["is_success"]),
    )
    return {"rewards": rewards, "lengths": lengths, "solved": sum(solved)}


def resting():
    """Lengths of the episodes of a policy that does nothing, that is, zeros."""
    envs = make_vec_env(one, n_envs=2, seed=0)
    nothing = Fixed(np.zeros(13, np.float32))
    return evaluate_policy(nothing, envs, n_eval_episodes=4, return_episode_rewards=True)[1]


def trained():
    """Lengths of the episodes in which PPO explores: no chance may end one."""
    envs = make_vec_env(lambda: one(terminate="ignore"), n_envs=2, seed=0)
    agent = PPO("CnnPolicy", VecFrameStack(envs, 4), n_steps=32, batch_size=32, n_epochs=1)
    agent.learn(64)
    return [episode["l"] for episode in agent.ep_info_buffer]


def subprocesses():
    envs = make_vec_env(
        "Vid2World-RT1-v0",
        n_envs=2,
        seed=0,
        vec_env_cls=SubprocVecEnv,
        vec_env_kwargs={"start_method": "fork"},
    )
    envs.reset()
    shape = envs.step(np.zeros((2, 13), np.float32))[0].shape
    envs.close()
    return list(shape)


if __name__ == "__main__":
    check_env(one())
    results = {"evaluated": evaluated(), "resting": resting(), "trained": trained()}
    results["subprocesses"] = subprocesses()  # after PyTorch has used its threads
    print(json.dumps(results))
