import numpy as np
import pytest
import torch

from v2w_gym.policies.rt1.memory import TokenMemory
from v2w_gym.policies.rt1.network import RT1Network


@pytest.fixture
def told(network: RT1Network) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.standard_normal((3, network.cfg.instruction_size)).astype(np.float32)


def test_each_frame_is_encoded_once(network: RT1Network, told: np.ndarray, frames: np.ndarray):
    encoded = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0].clone()))
    memory = TokenMemory(network, group=1)
    memory.reset(told)
    for now in frames:
        memory.step(now[[0, 2]], np.array([0, 2]))
    shown = torch.from_numpy(frames[:, [0, 2]]).flatten(0, 1)
    assert torch.equal(torch.cat(encoded), shown)


@pytest.mark.parametrize(("slots", "groups"), [(1, 1), (3, 2), (4, 2)])
def test_groups_have_one_size_and_are_filled_up(
    network: RT1Network, frames: np.ndarray, slots: int, groups: int
):
    sizes = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    network.embed.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    memory = TokenMemory(network, group=2)
    memory.reset(np.zeros((slots, network.cfg.instruction_size), np.float32))
    logits = memory.step(frames[0, [0] * slots], np.arange(slots))
    assert sizes == [2] * 2 * groups
    assert logits.shape == (slots, 11, 256)


def test_groups_give_what_single_slots_give(
    network: RT1Network, told: np.ndarray, frames: np.ndarray
):
    everyone, found = np.arange(3), []
    for group in (1, 2, 8):
        memory = TokenMemory(network, group)
        memory.reset(told)
        found.append(torch.stack([memory.step(now, everyone) for now in frames]))
    for other in found[1:]:
        assert (other - found[0]).abs().max() < 1e-4 * found[0].abs().max()


def test_tokens_are_aligned_left_then_roll(
    network: RT1Network, told: np.ndarray, frames: np.ndarray
):
    memory = TokenMemory(network)
    memory.reset(told)
    newest = []
    for step, now in enumerate(frames):
        memory.step(now[:1], np.array([1]))
        newest.append(memory.tokens[1, min(step, 5)].clone())
        expected = torch.stack(newest[-6:])
        assert torch.equal(memory.tokens[1, : len(expected)], expected)
        assert not memory.tokens[1, len(expected) :].any()
    assert not memory.tokens[[0, 2]].any() and memory.seen.tolist() == [0, 6, 0]


def test_a_network_in_training_is_used_without_dropout(
    network: RT1Network, told: np.ndarray, frames: np.ndarray
):
    memory = TokenMemory(network.train())
    memory.reset(told)
    logits = memory.step(frames[0], np.arange(3))
    memory.reset(told)
    assert torch.equal(memory.step(frames[0], np.arange(3)), logits)
    assert not logits.requires_grad
