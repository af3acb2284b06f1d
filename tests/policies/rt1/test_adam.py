"""One optimiser step."""

import math

import pytest
import torch
from torch import nn

from v2w_gym.configs.train import AdamConfig, TrainPolicyConfig
from v2w_gym.policies.rt1.adam import follow, learning_rate, make_adam


def test_learning_rate_warms_up_and_ends_at_zero():
    cfg = AdamConfig(learning_rate=1e-3, warmup=10)
    assert learning_rate(cfg, 0, 1000) == pytest.approx(1e-4)
    assert learning_rate(cfg, 500, 1000) == pytest.approx(5e-4)
    assert learning_rate(cfg, 1000, 1000) == pytest.approx(0)


def test_the_published_rate_is_constant():
    cfg = AdamConfig(learning_rate=1e-4, warmup=0, schedule="constant")
    assert [learning_rate(cfg, step, 1000) for step in (0, 500, 999)] == [1e-4] * 3


class Multiplied(nn.Module):
    """Two weights, each times a number that is also its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, factors: list[float]) -> torch.Tensor:
        return (self.weight * torch.tensor(factors)).sum()


def take(factors: list[float], **settings) -> tuple[list[float], dict[str, float]]:
    """Return the weights after one step of rate 0.1, and what was noted."""
    adam = AdamConfig(learning_rate=0.1, warmup=0, weight_decay=0.0, epsilon=1e-8, **settings)
    network = Multiplied()
    optimiser = make_adam(network, adam)
    notes = follow(network(factors), network, optimiser, TrainPolicyConfig(optimiser=adam), 0)
    return network.weight.tolist(), notes


def test_adam_takes_its_rate_against_the_gradient():
    weights, notes = take([3.0, -4.0], clip_norm=None)
    assert weights == pytest.approx([-0.1, 0.1])
    assert notes["gradient_norm"] == pytest.approx(5)
    assert (notes["loss"], notes["gradients_zeroed"]) == (0, 0)
    assert notes["learning_rate"] == pytest.approx(0.1)


def test_a_clipped_gradient_is_noted_as_it_was():
    _, notes = take([3.0, -4.0], clip_norm=1e-8)  # as small as Adam's epsilon
    weights, _ = take([3.0, -4.0], clip_norm=1e-8)
    assert notes["gradient_norm"] == pytest.approx(5)
    assert weights == pytest.approx([-0.1 * 0.6 / 1.6, 0.1 * 0.8 / 1.8], rel=1e-2)


class Squares(torch.autograd.Function):
    """A sum whose gradient holds what is not finite."""

    @staticmethod
    def forward(ctx, weight):
        return weight.sum()

    @staticmethod
    def backward(ctx, gradient):
        return torch.tensor([math.inf, 2.0]) * gradient


def test_gradients_that_are_not_finite_are_zeroed_and_counted_if_asked_for():
    cfg = TrainPolicyConfig(
        optimiser=AdamConfig(
            learning_rate=0.1, warmup=0, weight_decay=0.0, clip_norm=None, nonfinite="zero"
        )
    )
    network = Multiplied()
    optimiser = make_adam(network, cfg.optimiser)
    notes = follow(Squares.apply(network.weight), network, optimiser, cfg, 0)
    assert network.weight.tolist() == pytest.approx([0, -0.1])
    assert notes["gradients_zeroed"] == 1
    assert notes["gradient_norm"] == pytest.approx(2)


def test_gradients_that_are_not_finite_are_an_error_otherwise():
    network, cfg = Multiplied(), TrainPolicyConfig()
    loss = Squares.apply(network.weight)
    with pytest.raises(FloatingPointError, match="gradient at step 7, found 1 values that are not"):
        follow(loss, network, make_adam(network, cfg.optimiser), cfg, 7)
    assert network.weight.tolist() == [0, 0]


@pytest.mark.parametrize("nonfinite", ["error", "zero"])
def test_a_loss_that_is_not_finite_is_always_an_error(nonfinite: str):
    with pytest.raises(FloatingPointError, match="expected a finite loss at step 0, found nan"):
        take([math.nan, 0.0], nonfinite=nonfinite)
