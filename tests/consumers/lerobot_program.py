"""LeRobot's `eval_policy` on our environments; prints what it reports as JSON."""

import json
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.scripts.lerobot_eval import eval_policy

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast

STEPS = 6


class Judge:
    """Calls a drawer closed after three steps, and never open."""

    def success(self, frames, task):
        return np.array([frames.shape[1] >= 3 and task == "close_drawer"] * len(frames))


class Rests(PreTrainedPolicy):
    """Does nothing, and records its instructions."""

    config_class = ACTConfig
    name = "rests"

    def get_optim_params(self):
        return {}

    def reset(self):
        pass

    def forward(self, batch):
        raise NotImplementedError

    def predict_action_chunk(self, batch, **kwargs):
        raise NotImplementedError

    def select_action(self, batch, **kwargs):
        assert batch["observation.image"].shape == (2, 3, 64, 64)
        assert batch["observation.image"].dtype == torch.float32
        self.instructions = list(batch["task"])
        return torch.from_numpy(np.stack([STANDIN_SAWYER.make_action()] * 2))


def native(mode):
    model = CopyLast(STANDIN_SAWYER)
    return Vid2WorldVectorEnv(
        2, STEPS, model, judge=Judge(), obs_type="pixels", autoreset_mode=mode
    )


def one():
    model = CopyLast(STANDIN_SAWYER)
    return gym.wrappers.TimeLimit(Vid2WorldEnv(model, judge=Judge(), obs_type="pixels"), STEPS)


def evaluate(envs, folder):
    envs.set_attr("task", ["close_drawer", "open_drawer"])
    image = PolicyFeature(type=FeatureType.VISUAL, shape=(3, 64, 64))
    action = PolicyFeature(type=FeatureType.ACTION, shape=(13,))
    config = ACTConfig(
        input_features={"observation.image": image},
        output_features={"action": action},
        device="cpu",
    )
    same = lambda each: each  # noqa: E731
    policy = Rests(config)
    report = eval_policy(
        env=envs,
        policy=policy,
        env_preprocessor=same,
        env_postprocessor=same,
        preprocessor=same,
        postprocessor=same,
        n_episodes=6,
        max_episodes_rendered=2,
        videos_dir=Path(folder),
        start_seed=100,
    )
    return {
        "successes": [bool(each["success"]) for each in report["per_episode"]],
        "rewards": [each["sum_reward"] for each in report["per_episode"]],
        "percent": report["aggregated"]["pc_success"],
        "instructions": policy.instructions,
        "videos": len(list(Path(folder).glob("*.mp4"))),
    }


results = {}
for mode in AutoresetMode:
    with tempfile.TemporaryDirectory() as folder:
        results[f"native, {mode.value}"] = evaluate(native(mode), folder)
for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP):
    with tempfile.TemporaryDirectory() as folder:
        envs = SyncVectorEnv([one] * 2, autoreset_mode=mode)
        results[f"scalar, {mode.value}"] = evaluate(envs, folder)
print(json.dumps(results))
