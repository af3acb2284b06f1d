import pytest
import torch

from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.policies.rt1.network import RT1Network, TokenLearner, attention_mask


def test_mask_of_two_steps_with_two_image_and_two_action_tokens():
    rows = [  # columns: i i a a  i i a a
        "1000 0000",
        "1100 0000",
        "1100 0000",
        "1100 0000",
        "1111 1000",
        "1111 1100",
        "1100 1100",
        "1100 1100",
    ]
    expected = [[c == "1" for c in row.replace(" ", "")] for row in rows]
    assert attention_mask(2, 2, 2).tolist() == expected


def test_a_learned_token_is_a_weighted_mean_of_positions(tiny: RT1Config):
    learner = TokenLearner(tiny).eval()
    learner.weigh[-1].weight.data.zero_()  # all positions weigh the same
    features = torch.randn(2, 64, tiny.token_size)
    tokens = learner(features)
    expected = features.mean(1, keepdim=True).expand(-1, tiny.image_tokens, -1)
    assert torch.allclose(tokens, expected, atol=1e-6)


@pytest.mark.parametrize("changed", [0, 3, 5])
def test_a_frame_changes_no_earlier_step_and_every_later_one(network: RT1Network, changed: int):
    cfg = network.cfg
    tokens = torch.randn(1, cfg.history, cfg.image_tokens, cfg.token_size)
    other = tokens.clone()
    other[:, changed] += 1
    difference = (network(tokens) - network(other)).abs().amax(dim=(0, 2, 3))
    assert (difference[:changed] == 0).all()
    assert (difference[changed:] > 1e-4).all()


def test_logits_are_one_row_per_action_token(network: RT1Network):
    cfg = network.cfg
    logits = network(torch.randn(2, cfg.history, cfg.image_tokens, cfg.token_size))
    assert logits.shape == (2, 6, 11, 256)


def test_action_tokens_are_read_from_the_rows_that_predict_them(network: RT1Network):
    """Token a of step t is read from row t (K + A) + K - 1 + a, so its position matters there."""
    cfg, block = network.cfg, network.cfg.image_tokens + network.action_tokens
    tokens = torch.randn(1, cfg.history, cfg.image_tokens, cfg.token_size)
    before = network(tokens)
    network.positions.weight.data[:, 3 * block + cfg.image_tokens - 1 + 4] += 1
    changed = (network(tokens) - before).abs().amax(-1)[0, 3] > 1e-4
    assert changed.tolist() == [a == 4 for a in range(11)]


@pytest.mark.parametrize(
    ("size", "trained"), [("rt1", 35_252_128), ("multirobot", 111_363_239 - 87_296 - 7)]
)
def test_published_sizes(size: str, trained: int):
    """The multirobot checkpoint's index lists 111,363,239 numbers.

    Of those 87,296 are statistics of batch norms, and 7 constants of the images.
    """
    with torch.device("meta"):
        network = RT1Network(RT1_SIZES[size], action_tokens=11)
    assert sum(p.numel() for p in network.parameters()) == trained
    assert sum(b.numel() for b in network.buffers() if b.is_floating_point()) == 87_296


def test_the_small_network_is_small():
    network = RT1Network(RT1_SIZES["small"], action_tokens=11)
    assert sum(p.numel() for p in network.parameters()) < 1e6
    tokens = network.encode(torch.zeros(2, 64, 64, 3, dtype=torch.uint8), torch.zeros(2, 64))
    assert tokens.shape == (2, 8, 128)


def test_nothing_reads_the_action_embedding(network: RT1Network):
    cfg = network.cfg
    frames = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    tokens = network.encode(frames, torch.randn(6, cfg.instruction_size))
    network(tokens[None]).sum().backward()
    unread = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert unread == ["action_embedding.weight", "action_embedding.bias"]
