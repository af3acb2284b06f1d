import numpy as np
import pytest
import torch

from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.token_history import TokenHistory


@pytest.fixture
def instructions(network: RT1Network) -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.standard_normal((3, network.cfg.instruction_size)).astype(np.float32)


def test_each_frame_is_encoded_once(
    network: RT1Network, instructions: np.ndarray, frames: np.ndarray
):
    encoded = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(inputs[0].clone()))
    history = TokenHistory(network, group=1)
    history.reset(instructions)
    for now in frames:
        history.step(now[[0, 2]], np.array([0, 2]))
    shown = torch.from_numpy(frames[:, [0, 2]]).flatten(0, 1)
    assert torch.equal(torch.cat(encoded), shown)


@pytest.mark.parametrize(("slots", "groups"), [(1, 1), (3, 2), (4, 2)])
def test_groups_have_one_size_and_are_filled_up(
    network: RT1Network, frames: np.ndarray, slots: int, groups: int
):
    sizes = []
    network.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    network.embed.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    history = TokenHistory(network, group=2)
    history.reset(np.zeros((slots, network.cfg.instruction_size), np.float32))
    logits = history.step(frames[0, [0] * slots], np.arange(slots))
    assert sizes == [2] * 2 * groups
    assert logits.shape == (slots, 11, 256)


def test_groups_give_what_single_slots_give(
    network: RT1Network, instructions: np.ndarray, frames: np.ndarray
):
    everyone, found = np.arange(3), []
    for group in (1, 2, 8):
        history = TokenHistory(network, group)
        history.reset(instructions)
        found.append(torch.stack([history.step(now, everyone) for now in frames]))
    for other in found[1:]:
        assert (other - found[0]).abs().max() < 1e-4 * found[0].abs().max()


def test_tokens_are_aligned_left_then_roll(
    network: RT1Network, instructions: np.ndarray, frames: np.ndarray
):
    history = TokenHistory(network)
    history.reset(instructions)
    newest = []
    for step, now in enumerate(frames):
        history.step(now[:1], np.array([1]))
        newest.append(history.tokens[1, min(step, 5)].clone())
        expected = torch.stack(newest[-6:])
        assert torch.equal(history.tokens[1, : len(expected)], expected)
        assert not history.tokens[1, len(expected) :].any()
    assert not history.tokens[[0, 2]].any() and history.lengths.tolist() == [0, 6, 0]


def test_a_network_in_training_is_used_without_dropout(
    network: RT1Network, instructions: np.ndarray, frames: np.ndarray
):
    history = TokenHistory(network.train())
    history.reset(instructions)
    logits = history.step(frames[0], np.arange(3))
    history.reset(instructions)
    assert torch.equal(history.step(frames[0], np.arange(3)), logits)
    assert not logits.requires_grad
