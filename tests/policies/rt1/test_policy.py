from pathlib import Path

import numpy as np
import pytest
import torch

from configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from policies.instructions import InstructionTable
from policies.rt1.network import RT1Network
from policies.rt1.policy import RT1Policy, load_rt1, save_rt1
from policies.rt1.tokenizer import ActionTokenizer
from world_models.checkpoint import load_checkpoint, save_checkpoint

ON = np.ones(1, bool)


def roll(policy: RT1Policy, frames: np.ndarray, told: str = "open the drawer") -> np.ndarray:
    policy.reset([told], seeds=[0])
    return np.concatenate([policy.act(now, ON) for now in frames[:, :1]])


def test_remembered_tokens_equal_encoding_the_whole_memory_again(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    actions = roll(RT1Policy(network, STANDIN_SAWYER, table, "tiny"), frames)
    told = torch.from_numpy(table.vectors[[table.row("open the drawer")]])
    for step, action in enumerate(actions):
        seen = torch.from_numpy(frames[max(0, step - 5) : step + 1, 0])
        memory = torch.full((1, 6, 2, 16), 9.0)  # later slots must not matter
        with torch.no_grad():
            memory[0, : len(seen)] = network.encode(seen, told.expand(len(seen), -1))
            tokens = network(memory)[0, len(seen) - 1].argmax(-1).numpy()
        assert (ActionTokenizer(STANDIN_SAWYER).decode(tokens) == action).all()


def test_history_and_instruction_matter(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    together = roll(policy, frames[:3])[-1]
    assert (roll(policy, frames[2:3])[-1] != together).any()
    assert (roll(policy, frames[:3], "close the drawer")[-1] != together).any()


def test_only_the_last_six_frames_are_remembered(
    network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    changed = frames.copy()
    changed[:3] = 0
    assert (roll(policy, changed)[8] == roll(policy, frames)[8]).all()


def test_unknown_instruction_is_refused_with_the_nearest(
    network: RT1Network, table: InstructionTable
):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    with pytest.raises(ValueError, match="did you mean 'open the drawer'"):
        policy.reset(["open the drawers"], seeds=[0])


def test_frames_of_another_size_are_refused(network: RT1Network, table: InstructionTable):
    policy = RT1Policy(network, STANDIN_SAWYER, table, "tiny")
    policy.reset(["open the drawer"], seeds=[0])
    with pytest.raises(ValueError, match=r"expected uint8 frames of shape \(1, 64, 64, 3\)"):
        policy.act(np.zeros((1, 96, 96, 3), np.uint8), ON)


@pytest.fixture
def checkpoint(tmp_path: Path, network: RT1Network, table: InstructionTable) -> Path:
    path = tmp_path / "mine.safetensors"
    network.half().float()  # what half precision keeps
    save_rt1(path, network, STANDIN_SAWYER, table, {"step": 7})
    return path


def test_checkpoint_round_trip(
    checkpoint: Path, network: RT1Network, table: InstructionTable, frames: np.ndarray
):
    loaded = load_rt1(checkpoint, STANDIN_SAWYER)
    _, card = load_checkpoint(checkpoint)
    assert (loaded.meta.name, loaded.meta.fingerprint) == ("mine", card["sha256"])
    assert card["step"] == 7
    original = RT1Policy(network, STANDIN_SAWYER, table, "original")
    assert (roll(loaded, frames) == roll(original, frames)).all()


def test_checkpoint_of_another_robot_is_refused(checkpoint: Path):
    with pytest.raises(ValueError, match="expected a policy for robot 'google_robot'"):
        load_rt1(checkpoint, GOOGLE_ROBOT)


def test_weights_that_do_not_fit_their_card_are_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, tensors, {**card, "network": {**card["network"], "width": 32}})
    with pytest.raises(ValueError, match="expected the weights of the network on the card"):
        load_rt1(checkpoint, STANDIN_SAWYER)


def test_checkpoint_of_another_kind_is_refused(checkpoint: Path):
    tensors, card = load_checkpoint(checkpoint)
    save_checkpoint(checkpoint, tensors, {**card, "kind": "judge"})
    with pytest.raises(ValueError, match="expected a rt1 checkpoint"):
        load_rt1(checkpoint, STANDIN_SAWYER)
