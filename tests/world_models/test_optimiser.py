"""Steps that leave only finite numbers behind, and that go on after an interruption."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from v2w_gym.configs.train import OptimiserConfig
from v2w_gym.world_models.optimiser import OneCycle, Optimiser
from v2w_gym.world_models.training_state import check_not_diverged

CFG = OptimiserConfig(steps=10, batch_size=1, learning_rate=0.01, warmup=1, save_every=2)


def make_network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def loss_of(network: nn.Linear, step: int) -> torch.Tensor:
    return (network(torch.full((1, 3), step + 1.0)) - 1).square().mean()


def endless(network: nn.Linear) -> torch.Tensor:
    """Return a loss of zero whose gradient is not finite."""
    return (network.weight - network.weight.detach()).square().sum().sqrt()


def run(cfg: OptimiserConfig, state: Path, stop: int | None = None) -> Optimiser:
    """Train to the end, or up to step `stop`, where Ctrl-C is pressed."""
    network = make_network()
    optimiser = Optimiser(network, cfg, state)
    try:
        for step in optimiser.remaining_steps():
            if step == stop:
                raise KeyboardInterrupt
            optimiser.step(loss_of(network, step))
    except KeyboardInterrupt:
        pass
    return optimiser


def weights(optimiser: Optimiser) -> list[torch.Tensor]:
    return list(optimiser.average.values())


def same(one: Optimiser, other: Optimiser) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_a_gradient_that_is_not_finite_changes_nothing(tmp_path: Path):
    network, state = make_network(), tmp_path / "fit.state"
    optimiser = Optimiser(network, CFG, state)
    steps = optimiser.remaining_steps()
    for _ in range(5):
        optimiser.step(loss_of(network, next(steps)))
    before = [value.clone() for value in network.state_dict().values()]
    with pytest.raises(
        FloatingPointError,
        match=r"finite gradient at step 5, found one of norm nan; lower fit\.learning_rate and run "
        "the same command again: it goes on from step 4",
    ):
        optimiser.step(loss_of(network, next(steps)) + endless(network))
    steps.close()
    for old, new in zip(before, network.state_dict().values(), strict=True):
        assert torch.equal(old, new)
    left = torch.load(state, weights_only=True)
    assert left["steps_done"] == 4
    check_not_diverged(left, "the state")


@pytest.mark.parametrize("save_every", [1, 2, 100])
def test_a_lower_rate_goes_on_from_before_the_ruin(tmp_path: Path, save_every: int):
    cfg, state = replace(CFG, save_every=save_every), tmp_path / "fit.state"
    run(cfg, state, stop=4)
    ruinous = replace(cfg, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="lower fit.learning_rate"):
        run(ruinous, state)
    check_not_diverged(torch.load(state, weights_only=True), "the state")
    lower = run(replace(cfg, learning_rate=0.005), state)
    check_not_diverged(lower.average, "the average")
    assert lower.steps_done == 10
    assert lower.changes == ["fit.learning_rate was 0.01 until step 4, then 0.005"]


@pytest.mark.parametrize("stop", [0, 1, 4, 7])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, stop: int):
    whole = run(CFG, tmp_path / "whole.state")
    assert run(CFG, tmp_path / "fit.state", stop).steps_done == stop
    assert same(run(CFG, tmp_path / "fit.state"), whole)


def test_an_interruption_within_a_step_saves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = run(CFG, tmp_path / "whole.state")
    step = torch.optim.AdamW.step

    def interrupted(self, *args: object) -> None:
        step(self, *args)
        raise KeyboardInterrupt

    run(CFG, tmp_path / "fit.state", stop=3)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", interrupted)
        run(CFG, tmp_path / "fit.state")
    assert same(run(CFG, tmp_path / "fit.state"), whole)


def test_more_steps_before_the_decay_are_as_if_from_the_beginning(tmp_path: Path):
    more = replace(CFG, steps=20)
    run(CFG, tmp_path / "fit.state", stop=8)  # the rate falls in the last two of ten
    resumed = run(more, tmp_path / "fit.state")
    assert same(resumed, run(more, tmp_path / "whole.state"))
    assert resumed.changes == []


def test_more_steps_after_the_decay_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    run(CFG, tmp_path / "fit.state")
    resumed = run(replace(CFG, steps=20), tmp_path / "fit.state")
    assert resumed.steps_done == 20
    assert resumed.changes == ["fit.steps was 10 until step 10, then 20"]
    assert "the weights will not be those of a run that had it from the beginning" in caplog.text
    again = run(replace(CFG, steps=20), tmp_path / "fit.state")
    assert again.changes == resumed.changes


def test_fewer_steps_than_are_done_are_refused(tmp_path: Path):
    run(CFG, tmp_path / "fit.state")
    with pytest.raises(ValueError, match=r"steps of at least 10, which are done in .*fit\.state"):
        run(replace(CFG, steps=9), tmp_path / "fit.state")


@pytest.mark.parametrize("missing", ["adam", "network", "average", "steps_done"])
def test_a_state_that_lacks_something_is_named(tmp_path: Path, missing: str):
    path = tmp_path / "fit.state"
    run(CFG, path)
    state = torch.load(path, weights_only=True)
    del state[missing]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file .*delete it"):
        run(CFG, path)


@pytest.mark.parametrize("damage", [[1, 2], {"network": 3}, "text"])
def test_something_else_than_a_state_is_named(tmp_path: Path, damage: object):
    torch.save(damage, tmp_path / "fit.state")
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file"):
        run(CFG, tmp_path / "fit.state")


def test_a_state_that_is_not_finite_is_named(tmp_path: Path):
    path = tmp_path / "fit.state"
    run(CFG, path)
    state = torch.load(path, weights_only=True)
    state["network"]["weight"][0, 0] = torch.nan
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"fit\.state, found a damaged file .*FloatingPoint"):
        run(CFG, path)


@dataclass(frozen=True)
class Cycle:
    steps: int = 10
    learning_rate: float = 0.01
    save_every: int = 3


def run_cycle(state: Path, cfg: Cycle = Cycle(), stop: int | None = None) -> tuple:
    network, rng = make_network(), np.random.default_rng(0)
    optimiser = OneCycle(network, cfg, state, rng, weight_decay=0.01)
    try:
        for step in optimiser.remaining_steps():
            drawn = float(rng.random())
            if step == stop:
                raise KeyboardInterrupt
            optimiser.step(loss_of(network, step) * drawn)
    except KeyboardInterrupt:
        pass
    return network.weight.detach(), optimiser.changes


def test_one_cycle_takes_the_steps_of_torch(tmp_path: Path):
    network, rng = make_network(), np.random.default_rng(0)
    adam = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 0.01, 10)
    for step in range(10):
        adam.zero_grad()
        (loss_of(network, step) * float(rng.random())).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        cycle.step()
    assert torch.equal(run_cycle(tmp_path / "fit.state")[0], network.weight)


@pytest.mark.parametrize("stop", [0, 1, 5, 9])
def test_one_cycle_resumes_exactly_with_its_random_numbers(tmp_path: Path, stop: int):
    whole, _ = run_cycle(tmp_path / "whole.state")
    run_cycle(tmp_path / "fit.state", stop=stop)
    resumed, changes = run_cycle(tmp_path / "fit.state")
    assert torch.equal(resumed, whole)
    assert changes == []


@pytest.mark.parametrize("before", [0.01, 0.0])
def test_one_cycle_goes_on_at_another_peak(tmp_path: Path, before: float):
    run_cycle(tmp_path / "fit.state", Cycle(learning_rate=before), stop=5)
    _, changes = run_cycle(tmp_path / "fit.state", Cycle(learning_rate=0.001))
    assert changes == [f"learning_rate was {before} until step 5, then 0.001"]
    run_cycle(tmp_path / "whole.state", Cycle(learning_rate=0.001))
    (resumed,), (whole,) = (
        torch.load(tmp_path / f"{name}.state", weights_only=True)["adam"]["param_groups"]
        for name in ("fit", "whole")
    )
    for rate in ("lr", "initial_lr", "max_lr", "min_lr"):
        assert resumed[rate] == pytest.approx(whole[rate])
