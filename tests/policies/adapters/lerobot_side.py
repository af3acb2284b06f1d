"""LeRobot's own policies behind our adapter, run where LeRobot is; prints what it found.

The weights are random: what counts is that the adapter gives what LeRobot gives.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors

from v2w_gym.configs.policies import LeRobotConfig
from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.policies.adapters.lerobot import lerobot_maker
from v2w_gym.policies.conformance import roll
from v2w_gym.policies.robot_policy import RobotPolicy

IMAGE, ACTION = "observation.image", "action"
FRAMES = np.random.default_rng(0).integers(0, 256, (6, 2, 64, 64, 3), np.uint8)
INSTRUCTIONS = ["close the drawer", "open the drawer"]
FEATURES = {
    "input_features": {IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 64, 64))},
    "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (7,))},
}
STATE = {"observation.state": PolicyFeature(FeatureType.STATE, (2,))}
ACT = {
    "chunk_size": 4,
    "n_action_steps": 4,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "pretrained_backbone_weights": None,
    "use_vae": False,
}
DIFFUSION = {
    "down_dims": (16, 32),
    "horizon": 4,
    "n_action_steps": 2,
    "num_inference_steps": 3,
    "n_groups": 4,
    "use_group_norm": True,
    "pretrained_backbone_weights": None,
    "crop_shape": (56, 56),
    "drop_n_last_frames": 0,
}
STATS = {
    ACTION: {"mean": torch.arange(7.0), "std": torch.full((7,), 2.0), "min": torch.zeros(7)},
    IMAGE: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)},
    "observation.state": {"min": -torch.ones(2), "max": torch.ones(2)},
}
STATS[ACTION]["max"] = torch.full((7,), 2.0)
STATS["observation.state"] |= {"mean": torch.zeros(2), "std": torch.ones(2)}
STATS[IMAGE] |= {"min": torch.zeros(3, 1, 1), "max": torch.ones(3, 1, 1)}


def check_act_in_chunks() -> None:
    """The adapter's chunk is LeRobot's, un-normalised, and a slot acts the same alone."""
    torch.manual_seed(0)
    policy = ACTPolicy(ACTConfig(**FEATURES, **ACT, device="cpu"))
    policy.eval()
    pre, post = make_pre_post_processors(policy.config, dataset_stats=STATS)
    # ACT looks at the device of a state even where it has none
    make = lerobot_maker(policy, LeRobotConfig("oxe7", zero_state=True), pre, post)
    ours = make()
    found = roll(ours, FRAMES, INSTRUCTIONS)
    assert found.shape == (6, 2, 4, 7)
    image = torch.from_numpy(FRAMES[3, 1]).permute(2, 0, 1)[None] / 255.0
    batch = pre({IMAGE: image, "observation.state": torch.zeros(1, 0), "task": [INSTRUCTIONS[1]]})
    with torch.no_grad():
        theirs = policy.predict_action_chunk(batch)[0] * 2 + torch.arange(7.0)
    assert np.abs(found[3, 1] - theirs.numpy()).max() < 1e-5
    assert (roll(make(), FRAMES[:, :1], INSTRUCTIONS[:1]) == found[:, :1]).all()
    print("act", ours.meta)


def check_act_is_carried_out_as_lerobot_does(own: dict) -> None:
    """With default settings, it gives the actions of LeRobot's own loop."""
    torch.manual_seed(0)
    policy = ACTPolicy(ACTConfig(**FEATURES, **{**ACT, "chunk_size": 5, **own}, device="cpu"))
    policy.eval()
    pre, post = make_pre_post_processors(policy.config, dataset_stats=STATS)
    policy.reset()
    theirs = []
    for frame in FRAMES[:, 0]:
        image = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255.0
        batch = pre(
            {IMAGE: image, "observation.state": torch.zeros(1, 0), "task": INSTRUCTIONS[:1]}
        )
        with torch.no_grad():
            theirs.append(post(policy.select_action(batch))[0].numpy())
    maker = lerobot_maker(policy, LeRobotConfig("oxe7", zero_state=True), pre, post)
    on_robot = RobotPolicy(maker(), GOOGLE_ROBOT)
    on_robot.reset(INSTRUCTIONS[:1], seeds=[0])
    ours = np.concatenate([on_robot.act(frame[:1], np.ones(1, bool)) for frame in FRAMES])
    wanted = np.clip(np.stack(theirs)[:, :3], -1, 1)
    found = ours[:, GOOGLE_ROBOT.slices["world_vector"]]
    assert np.abs(found - wanted).max() < 1e-5, (own, found, wanted)
    assert (np.diff(found[:, 0]) != 0).any()
    print("as LeRobot", own, on_robot.meta.execution_horizon, on_robot.meta.ensemble)


def check_that_all_missing_inputs_are_named() -> None:
    """A second camera and a state are refused, or given as constants."""
    wrist = {"observation.images.wrist": PolicyFeature(FeatureType.VISUAL, (3, 64, 64))}
    features = {**FEATURES, "input_features": FEATURES["input_features"] | wrist | STATE}
    policy = ACTPolicy(ACTConfig(**features, **ACT, device="cpu"))
    policy.eval()
    processors = make_pre_post_processors(
        policy.config, dataset_stats=STATS | dict.fromkeys(wrist, STATS[IMAGE])
    )
    try:
        lerobot_maker(policy, LeRobotConfig("oxe7"), *processors)
    except ValueError as error:
        assert "observation.images.wrist (3, 64, 64)" in str(error), error
        assert "'observation.state': {'zeros': [2]}" in str(error), error
    else:
        raise AssertionError("expected an error about two inputs")
    stated = {"observation.images.wrist": {"image": [64, 64]}, "observation.state": [0.5, 0]}
    make = lerobot_maker(policy, LeRobotConfig("oxe7", inputs=stated), *processors)
    found = roll(make(), FRAMES, INSTRUCTIONS)
    other = LeRobotConfig("oxe7", inputs={**stated, "observation.state": [-0.5, 0]})
    assert (roll(lerobot_maker(policy, other, *processors)(), FRAMES, INSTRUCTIONS) != found).any()


def check_diffusion_step_by_step() -> None:
    """A policy with a history of frames and draws noise: a slot acts the same in any batch."""
    torch.manual_seed(0)
    features = {**FEATURES, "input_features": FEATURES["input_features"] | STATE}
    policy = DiffusionPolicy(DiffusionConfig(**features, **DIFFUSION, device="cpu"))
    policy.eval()
    processors = make_pre_post_processors(policy.config, dataset_stats=STATS)
    for cfg, message in (
        (LeRobotConfig("oxe7"), "needs the state"),
        (LeRobotConfig("oxe7", zero_state=True), "whole_chunks=False"),
    ):
        try:
            lerobot_maker(policy, cfg)
        except ValueError as error:
            assert message in str(error), error
        else:
            raise AssertionError(f"expected an error: {message}")
    make = lerobot_maker(
        policy, LeRobotConfig("oxe7", zero_state=True, whole_chunks=False), *processors
    )
    found = roll(make(), FRAMES, INSTRUCTIONS)
    assert found.shape == (6, 2, 1, 7)
    assert (roll(make(), FRAMES, INSTRUCTIONS) == found).all()
    assert (roll(make(), FRAMES[:, 1:], INSTRUCTIONS[1:], first_seed=1) == found[:, 1:]).all()
    assert (roll(make(), FRAMES[:, 1:], INSTRUCTIONS[1:], first_seed=2) != found[:, 1:]).any()
    print("diffusion", make().meta)


if __name__ == "__main__":
    torch.set_num_threads(1)
    check_act_in_chunks()
    check_diffusion_step_by_step()
    check_act_is_carried_out_as_lerobot_does({"n_action_steps": 2})
    check_act_is_carried_out_as_lerobot_does({"n_action_steps": 5})
    check_act_is_carried_out_as_lerobot_does({"n_action_steps": 1, "temporal_ensemble_coeff": 0.01})
    check_that_all_missing_inputs_are_named()
    print("done")
