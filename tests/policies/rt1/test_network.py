import pytest
import torch

from configs.policy import RT1Config
from policies.rt1.network import FiLM, ImageEncoder, RT1Network, TokenLearner, attention_mask


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


def test_film_worked_by_hand():
    film = FiLM(2, 1)
    film.project.weight.data = torch.tensor([[1.0, 0.0], [0.0, 3.0]])  # scale, shift
    film.project.bias.data = torch.tensor([0.5, 0.0])
    features = torch.tensor([[[[2.0, -1.0]]]])
    out = film(features, torch.tensor([[1.0, 2.0]]))  # x * (1 + 1 + 0.5) + 6
    assert out.flatten().tolist() == [11.0, 3.5]


def test_instruction_does_nothing_before_training_and_something_after(tiny: RT1Config):
    torch.manual_seed(0)
    encoder = ImageEncoder(tiny)
    frame = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    one, two = torch.randn(2, 1, tiny.instruction_size)
    assert torch.equal(encoder(frame, one), encoder(frame, two))
    for module in encoder.modules():
        if isinstance(module, FiLM):
            module.project.weight.data.normal_()
    assert not torch.allclose(encoder(frame, one), encoder(frame, two))


def test_every_block_is_followed_by_film(tiny: RT1Config):
    encoder = ImageEncoder(tiny)
    assert sum(isinstance(m, FiLM) for m in encoder.modules()) == sum(tiny.blocks) + 1


def test_a_learned_token_is_a_weighted_mean_of_positions(tiny: RT1Config):
    learner = TokenLearner(tiny).eval()
    learner.weigh[-1].weight.data.zero_()  # all positions weigh the same
    features = torch.randn(2, 64, tiny.width)
    tokens = learner(features)
    expected = features.mean(1, keepdim=True).expand(-1, tiny.image_tokens, -1)
    assert torch.allclose(tokens, expected, atol=1e-6)


@pytest.mark.parametrize("changed", [0, 3, 5])
def test_a_frame_changes_no_earlier_step_and_every_later_one(network: RT1Network, changed: int):
    cfg = network.cfg
    tokens = torch.randn(1, cfg.history, cfg.image_tokens, cfg.width)
    other = tokens.clone()
    other[:, changed] += 1
    difference = (network(tokens) - network(other)).abs().amax(dim=(0, 2, 3))
    assert (difference[:changed] == 0).all()
    assert (difference[changed:] > 1e-4).all()


def test_logits_are_one_row_per_action_token(network: RT1Network):
    cfg = network.cfg
    logits = network(torch.randn(2, cfg.history, cfg.image_tokens, cfg.width))
    assert logits.shape == (2, 6, 11, 256)


def test_action_tokens_are_read_from_the_rows_that_predict_them(network: RT1Network):
    """Token a of step t is read from row t (K + A) + K - 1 + a, so its position matters there."""
    cfg, block = network.cfg, network.cfg.image_tokens + network.action_tokens
    tokens = torch.randn(1, cfg.history, cfg.image_tokens, cfg.width)
    before = network(tokens)
    network.positions.data[3 * block + cfg.image_tokens - 1 + 4] += 1  # an action slot's row
    changed = (network(tokens) - before).abs().amax(-1)[0, 3] > 1e-4
    assert changed.tolist() == [a == 4 for a in range(11)]


def test_default_size_is_about_a_million_parameters():
    network = RT1Network(RT1Config(), action_tokens=11)
    assert 0.8e6 < sum(p.numel() for p in network.parameters()) < 1.1e6
