"""Optimiser steps: finite numbers only, and resuming after an interruption."""

import json
import math
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from v2w_gym.world_models.optimiser import Optimiser, check_not_diverged
from v2w_gym.world_models.schedules import Recipe, rates

LINEAR = Recipe(10, 0.01, 2, "linear", warmup=1, decay=0.2, ema_decay=0.999, section="fit.")
ONE_CYCLE = Recipe(10, 0.01, 3, "one_cycle")
BARE = Recipe(1, 0.1, 1, "constant", weight_decay=0.0, clip_norm=None)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))


def loss_of(network: nn.Module, step: int) -> torch.Tensor:
    batch = torch.arange(12.0).reshape(4, 3) * (step + 1) % 7
    return (network(batch) - 1).square().mean()


def endless(network: nn.Module) -> torch.Tensor:
    """Return a loss of zero whose gradient is not finite."""
    weight = next(network.parameters())
    return (weight - weight.detach()).square().sum().sqrt()


def make(recipe: Recipe, state: Path, rng: np.random.Generator | None = None) -> Optimiser:
    return Optimiser(make_network(), recipe, state, state.with_suffix(".jsonl"), rng)


def run(recipe: Recipe, state: Path, stop: int | None = None) -> Optimiser:
    """Train to the end, or up to step `stop`, where Ctrl-C is pressed."""
    rng = np.random.default_rng(0)
    optimiser = make(recipe, state, rng)
    try:
        for step in optimiser.remaining_steps():
            loss = loss_of(optimiser._network, step) * float(rng.random())
            if step == stop:
                raise KeyboardInterrupt
            optimiser.step(loss)
    except KeyboardInterrupt:
        pass
    return optimiser


def weights(optimiser: Optimiser) -> list[torch.Tensor]:
    return [*optimiser._network.state_dict().values(), *optimiser.average.values()]


def same(one: Optimiser, other: Optimiser) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def lines_of(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in state.with_suffix(".jsonl").read_text().splitlines()]


def change(path: Path, name: str, value: Any) -> None:
    """Write a state whose entry `name` is another one."""
    state = torch.load(path, weights_only=True)
    torch.save({**state, name: value}, path)


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path):
    state = tmp_path / "fit.state"
    optimiser = make(LINEAR, state)
    network, steps = optimiser._network, optimiser.remaining_steps()
    for _ in range(5):
        optimiser.step(loss_of(network, next(steps)))
    before = [value.clone() for value in network.parameters()]
    with pytest.raises(
        FloatingPointError,
        match=r"finite gradient at step 5, found one of norm nan; lower fit\.learning_rate and run "
        "the same command again: it resumes from step 4",
    ):
        optimiser.step(loss_of(network, next(steps)) + endless(network))
    steps.close()
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(old, new)
    left = torch.load(state, weights_only=True)
    assert left["steps_done"] == 4
    check_not_diverged(left, "the state")


@pytest.mark.parametrize("save_every", [1, 2, 100])
def test_a_lower_rate_goes_on_from_before_the_ruin(tmp_path: Path, save_every: int):
    recipe, state = replace(LINEAR, save_every=save_every), tmp_path / "fit.state"
    run(recipe, state, stop=4)
    ruinous = replace(recipe, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower fit.learning_rate"):
        run(ruinous, state)
    check_not_diverged(torch.load(state, weights_only=True), "the state")
    lower = run(replace(recipe, learning_rate=0.005), state)
    check_not_diverged(lower.average, "the average")
    assert lower.steps_done == 10
    assert lower.changes == ["fit.learning_rate was 0.01 until step 4, then 0.005"]


@pytest.mark.parametrize("recipe", [LINEAR, ONE_CYCLE])
@pytest.mark.parametrize("stop", [0, 1, 4, 7, 9])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, recipe: Recipe, stop: int):
    whole = run(recipe, tmp_path / "whole.state")
    assert run(recipe, tmp_path / "fit.state", stop).steps_done == stop
    resumed = run(recipe, tmp_path / "fit.state")
    assert same(resumed, whole)
    assert resumed.changes == []
    assert lines_of(tmp_path / "fit.state") == lines_of(tmp_path / "whole.state")


def test_an_interruption_within_a_step_saves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = run(LINEAR, tmp_path / "whole.state")
    step = torch.optim.AdamW.step

    def interrupted(self, *args: object) -> None:
        step(self, *args)
        raise KeyboardInterrupt

    run(LINEAR, tmp_path / "fit.state", stop=3)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        run(LINEAR, tmp_path / "fit.state")
    assert same(run(LINEAR, tmp_path / "fit.state"), whole)


def test_what_follows_an_update_belongs_to_its_step(tmp_path: Path):
    state, noted = tmp_path / "fit.state", []
    for _ in range(2):
        optimiser = make(LINEAR, state)
        try:
            for step in optimiser.remaining_steps():
                optimiser.step(loss_of(optimiser._network, step))
                if step == 4:
                    noted.append(step)
                    if len(noted) == 1:
                        raise KeyboardInterrupt  # before its result is written
                    optimiser.note(validation_loss=0.5)
        except KeyboardInterrupt:
            pass
    assert noted == [4, 4]
    assert [line for line in lines_of(state) if "validation_loss" in line] == [
        {"step": 5, "validation_loss": 0.5}
    ]


def test_more_steps_before_the_decay_are_as_if_from_the_beginning(tmp_path: Path):
    more = replace(LINEAR, steps=20)
    run(LINEAR, tmp_path / "fit.state", stop=8)  # the rate falls in the last two of ten
    resumed = run(more, tmp_path / "fit.state")
    assert same(resumed, run(more, tmp_path / "whole.state"))
    assert resumed.changes == []


def test_more_steps_after_the_decay_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run(LINEAR, tmp_path / "fit.state")
    resumed = run(replace(LINEAR, steps=20), tmp_path / "fit.state")
    assert resumed.steps_done == 20
    assert resumed.changes == ["fit.steps was 10 until step 10, then 20"]
    assert (
        "the weights will differ from those of a run with the new value from the start"
        in caplog.text
    )
    again = run(replace(LINEAR, steps=20), tmp_path / "fit.state")
    assert again.changes == resumed.changes


def test_fewer_steps_than_are_done_are_refused(tmp_path: Path):
    run(LINEAR, tmp_path / "fit.state")
    with pytest.raises(ValueError, match=r"steps of at least 10, as .*fit\.state has taken them"):
        run(replace(LINEAR, steps=9), tmp_path / "fit.state")


@pytest.mark.parametrize("missing", ["adam", "network", "average", "random", "steps_done"])
def test_a_state_that_lacks_something_is_named(tmp_path: Path, missing: str):
    path = tmp_path / "fit.state"
    run(LINEAR, path)
    state = torch.load(path, weights_only=True)
    del state[missing]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file.*KeyError.*delete it"):
        run(LINEAR, path)


@pytest.mark.parametrize("damage", [[1, 2], {"network": 3}, "text"])
def test_something_else_than_a_state_is_named(tmp_path: Path, damage: object):
    torch.save(damage, tmp_path / "fit.state")
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file"):
        run(LINEAR, tmp_path / "fit.state")


@pytest.mark.parametrize("damage", [lambda data: data[:-500], lambda data: b"", lambda data: b"PK"])
def test_a_damaged_state_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]):
    path = tmp_path / "fit.state"
    run(LINEAR, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file.*delete it to start"):
        run(LINEAR, path)


def test_another_networks_state_is_named(tmp_path: Path):
    path = tmp_path / "fit.state"
    run(LINEAR, path)
    with pytest.raises(ValueError, match=r"damaged file, or one of another network or version"):
        Optimiser(nn.Linear(3, 1), LINEAR, path, tmp_path / "fit.jsonl")


def test_a_state_that_is_not_finite_is_named(tmp_path: Path):
    path = tmp_path / "fit.state"
    run(LINEAR, path)
    network = torch.load(path, weights_only=True)["network"]
    change(path, "network", {**network, "0.bias": torch.tensor([0.0, torch.nan])})
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file.*FloatingPoint"):
        run(LINEAR, path)


def test_a_full_disk_leaves_the_state_before(tmp_path: Path):
    path = tmp_path / "fit.state"
    run(LINEAR, path, stop=2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"fit\.state"):
            run(LINEAR, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.load(path, weights_only=True)["steps_done"] == 2
    assert not [*tmp_path.glob("*.partial")]


def test_metrics_after_the_state_are_dropped(tmp_path: Path):
    path = tmp_path / "fit.state"
    run(LINEAR, path, stop=2)
    with path.with_suffix(".jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.0}\n')
        file.write('\0\0{"a": {}}\n{"step": 4, "lo')  # the power was cut here
    make(LINEAR, path)
    assert [line["step"] for line in lines_of(path)] == [1, 2]


def test_one_cycle_goes_on_at_another_peak(tmp_path: Path):
    path, lower = tmp_path / "fit.state", replace(ONE_CYCLE, learning_rate=0.001)
    run(ONE_CYCLE, path, stop=5)
    assert run(lower, path).changes == ["learning_rate was 0.01 until step 5, then 0.001"]
    run(lower, tmp_path / "whole.state")
    assert [line["learning_rate"] for line in lines_of(path)[5:]] == [
        line["learning_rate"] for line in lines_of(tmp_path / "whole.state")[5:]
    ]


def test_the_linear_rate_warms_up_and_decays():
    recipe = Recipe(100, 1.0, 1, "linear", warmup=10, decay=0.2)
    found = [rates(recipe, step).learning_rate for step in (0, 4, 9, 50, 80, 90, 99)]
    assert found == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.05])


def test_the_cosine_rate_warms_up_and_ends_at_zero():
    recipe = Recipe(1000, 1e-3, 1, "cosine", warmup=10)
    found = [rates(recipe, step).learning_rate for step in (0, 500, 1000)]
    assert found == pytest.approx([1e-4, 5e-4, 0])


def test_the_constant_rate_is_constant():
    recipe = Recipe(1000, 1e-4, 1, "constant")
    assert [rates(recipe, step).learning_rate for step in (0, 500, 999)] == [1e-4] * 3


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 57])
def test_one_cycle_has_the_rates_of_torch(steps: int):
    adam = torch.optim.AdamW(make_network().parameters())
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 0.003, steps)
    for step in range(steps):
        (group,) = adam.param_groups
        assert rates(Recipe(steps, 0.003, 1, "one_cycle"), step) == (
            group["lr"],
            group["betas"][0],
        )
        adam.step()
        cycle.step()


def test_the_average_follows_the_weights_ever_more_slowly(tmp_path: Path):
    optimiser = make(replace(LINEAR, ema_decay=0.5), tmp_path / "fit.state")
    expected = {name: value.clone() for name, value in optimiser.average.items()}
    for step in optimiser.remaining_steps():
        optimiser.step(loss_of(optimiser._network, step))
        decay = min(0.5, (2 + step) / (11 + step))
        for name, value in optimiser._network.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * value.detach()
    for name, _ in optimiser._network.named_parameters():
        assert torch.allclose(optimiser.average[name], expected[name], atol=1e-6), name


class Multiplied(nn.Module):
    """Two weights, each times a number that is also its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, factors: list[float]) -> torch.Tensor:
        return Factors.apply(self.weight, torch.tensor(factors))


class Factors(torch.autograd.Function):
    """A sum whose gradient may hold what is not finite, while it is finite itself."""

    @staticmethod
    def forward(ctx, weight, factors):
        ctx.save_for_backward(factors)
        return weight.sum()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.saved_tensors[0] * gradient, None


def take(folder: Path, factors: list[float], **settings) -> tuple[list[float], dict[str, float]]:
    """Return the weights after one step of rate 0.1, and what was noted."""
    network, state = Multiplied(), folder / "fit.state"
    optimiser = Optimiser(network, replace(BARE, **settings), state, state.with_suffix(".jsonl"))
    for _ in optimiser.remaining_steps():
        optimiser.step(network(factors))
    return network.weight.tolist(), lines_of(state)[-1]


def test_adam_takes_its_rate_against_the_gradient(tmp_path: Path):
    found, record = take(tmp_path, [3.0, -4.0])
    assert found == pytest.approx([-0.1, 0.1])
    assert record["gradient_norm"] == pytest.approx(5)
    assert (record["step"], record["loss"], record["gradients_zeroed"]) == (1, 0, 0)
    assert record["learning_rate"] == pytest.approx(0.1)


def test_a_clipped_gradient_is_noted_as_it_was(tmp_path: Path):
    found, record = take(tmp_path, [3.0, -4.0], clip_norm=1e-8)  # as small as Adam's epsilon
    assert record["gradient_norm"] == pytest.approx(5)
    assert found == pytest.approx([-0.1 * 0.6 / 1.6, 0.1 * 0.8 / 1.8], rel=1e-2)


def test_gradients_that_are_not_finite_are_zeroed_and_counted_with_nonfinite_zero(tmp_path: Path):
    found, record = take(tmp_path, [math.inf, 2.0], nonfinite="zero")
    assert found == pytest.approx([0, -0.1])
    assert record["gradients_zeroed"] == 1
    assert record["gradient_norm"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("factors", "nonfinite", "norm"),
    [
        ([math.inf, 2.0], "error", "inf"),
        ([3e38, 3e38], "zero", "inf"),  # finite values whose norm is not
    ],
)
def test_gradients_that_are_not_finite_are_an_error_otherwise(
    tmp_path: Path, factors: list[float], nonfinite: str, norm: str
):
    with pytest.raises(FloatingPointError, match=f"gradient at step 0, found one of norm {norm}"):
        take(tmp_path, factors, nonfinite=nonfinite)


@pytest.mark.parametrize("nonfinite", ["error", "zero"])
def test_a_loss_that_is_not_finite_is_always_an_error(tmp_path: Path, nonfinite: str):
    optimiser = make(replace(BARE, nonfinite=nonfinite), tmp_path / "fit.state")
    loss = loss_of(optimiser._network, 0) * math.nan
    with pytest.raises(FloatingPointError, match="expected a finite loss at step 0, found nan"):
        optimiser.step(loss)
