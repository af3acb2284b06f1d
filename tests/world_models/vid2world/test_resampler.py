import pytest
import torch

from v2w_gym.configs.model import ResamplerConfig
from v2w_gym.world_models.vid2world.clip_towers import Resampler

CFG = ResamplerConfig(channels=16, layers=2, heads=2, head_channels=4, tokens=6, out_channels=8)


@pytest.fixture(scope="module")
def resampler() -> Resampler:
    torch.manual_seed(0)
    return Resampler(CFG, in_channels=10).eval().requires_grad_(False)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(2, 11, 10, generator=torch.Generator().manual_seed(1))


def test_any_number_of_tokens_becomes_the_set_number(resampler, tokens):
    assert resampler(tokens).shape == (2, 6, 8)
    assert resampler(tokens[:, :5]).shape == (2, 6, 8)


def test_the_order_of_the_tokens_does_not_matter_but_each_does(resampler, tokens):
    out = resampler(tokens)
    torch.testing.assert_close(resampler(tokens.flip(1)), out, rtol=1e-4, atol=1e-5)
    changed = tokens.clone()
    changed[0, 3] += 1
    moved = (resampler(changed) - out).abs().amax(-1) > 1e-5
    assert moved.tolist() == [[True] * 6, [False] * 6]


def test_the_queries_see_each_other(resampler, tokens):
    out = resampler(tokens)
    resampler.latents[0, 0].neg_()
    moved = (resampler(tokens) - out).abs().amax((0, 2)) > 1e-5
    resampler.latents[0, 0].neg_()
    assert moved.all()


def test_without_layers_the_queries_come_out_normalised():
    network = Resampler(ResamplerConfig(channels=2, layers=0, tokens=1, out_channels=2), 3)
    network.latents.data = torch.tensor([[[3.0, 5.0]]])
    network.project_out.weight.data = torch.eye(2)
    network.project_out.bias.data = torch.zeros(2)
    torch.testing.assert_close(network(torch.zeros(1, 4, 3)), torch.tensor([[[-1.0, 1.0]]]))
