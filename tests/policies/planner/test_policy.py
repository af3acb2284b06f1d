"""The planner as a policy, and errors of its checkpoints."""

from pathlib import Path

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.policies.base import Policy
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.planner.perception import PerceptionNetwork, to_pixels
from v2w_gym.policies.planner.policy import PlannerPolicy, load_planner, perceive, save_planner
from v2w_gym.world_models.checkpoint import load_checkpoint, save_checkpoint


class TestPlanner(PolicyConformance):
    @pytest.fixture
    def policy(self, network: PerceptionNetwork) -> Policy:
        return PlannerPolicy(network, STANDIN_SAWYER, "planner")

    def test_actions_are_within_the_robots_bounds(self, policy: Policy, frames, instructions):
        actions = roll(policy, frames, instructions).reshape(-1, STANDIN_SAWYER.action_size)
        assert (STANDIN_SAWYER.check_actions(actions) == actions).all()
        assert actions[:, STANDIN_SAWYER.slices["world_vector"]].any()

    def test_the_instruction_matters_and_its_spelling_does_not(self, policy: Policy, frames):
        opened, closed = (
            roll(policy, frames, [instruction] * 3)
            for instruction in ("open the drawer", "close the drawer")
        )
        assert (opened != closed).any()
        assert (roll(policy, frames, ["Open  the drawer!"] * 3) == opened).all()

    def test_an_unknown_instruction_is_refused_with_the_nearest(self, policy: Policy):
        with pytest.raises(ValueError, match="did you mean 'open the drawer'"):
            policy.reset(["open the door"], seeds=[0])


@pytest.fixture
def checkpoint(network: PerceptionNetwork, tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    save_planner(path, network, STANDIN_SAWYER, {"note": 1})
    return path


def test_the_network_reads_five_values(network: PerceptionNetwork):
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    pixels = to_pixels(frames)
    assert pixels.shape == (3, 3, 64, 64)
    assert pixels[1, 2, 3, 4] == pytest.approx(frames[1, 3, 4, 2] / 127.5 - 1)
    values = network(pixels).detach().numpy()
    assert values.shape == (3, 5)
    read = perceive(network, frames[1])
    assert [*read.hand, read.handle_x, read.opening] == pytest.approx(values[1], abs=1e-6)


def test_a_checkpoint_acts_as_the_network_did_but_for_half_precision(
    network: PerceptionNetwork, checkpoint: Path
):
    policy = load_planner(checkpoint, STANDIN_SAWYER)
    rounded = PlannerPolicy(network.half().float(), STANDIN_SAWYER, "same")
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64, 3), np.uint8)
    instructions = ["open the drawer"] * 3
    assert (roll(policy, frames, instructions) == roll(rounded, frames, instructions)).all()
    card = load_checkpoint(checkpoint)[1]
    assert (policy.meta.name, policy.meta.fingerprint) == ("mine", card["sha256"])
    assert card["note"] == 1


def test_a_checkpoint_of_another_robot_is_refused(network: PerceptionNetwork, tmp_path: Path):
    path = tmp_path / "other.safetensors"
    save_planner(path, network, GOOGLE_ROBOT, {})
    with pytest.raises(ValueError, match="expected a policy for robot 'standin_sawyer'"):
        load_planner(path, STANDIN_SAWYER)


def test_damaged_and_foreign_files_are_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match="is truncated or from another training run"):
        load_planner(checkpoint, STANDIN_SAWYER)
    save_checkpoint(checkpoint, tensors, {**card, "kind": "rt1"})
    with pytest.raises(ValueError, match="expected a planner checkpoint"):
        load_planner(checkpoint, STANDIN_SAWYER)
    save_checkpoint(checkpoint, tensors, {"kind": "planner"})
    with pytest.raises(ValueError, match="found no robot, channels"):
        load_planner(checkpoint, STANDIN_SAWYER)
    for wrong in ([8, -1], [], None, "8", [10**12], [8] * 1000, [8.5], {"a": 1}):
        save_checkpoint(checkpoint, tensors, {**card, "channels": wrong})
        with pytest.raises(ValueError, match=r"on the card of .*expected channels of at least 1"):
            load_planner(checkpoint, STANDIN_SAWYER)
    save_checkpoint(checkpoint, tensors, {**card, "channels": [4096] * 32})
    with pytest.raises(ValueError, match="expected the weights of the network on the card"):
        load_planner(checkpoint, STANDIN_SAWYER)
    del tensors["head.2.bias"]
    save_checkpoint(checkpoint, tensors, card)
    with pytest.raises(ValueError, match="expected the weights of the network on the card"):
        load_planner(checkpoint, STANDIN_SAWYER)
