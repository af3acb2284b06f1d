"""The folder of a training run."""

import json
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from v2w_gym.policies.rt1.run import TrainingRun

SETTINGS = {"steps": 4, "device": "cpu", "stages": {"end": 1.0}}


def make(seed: int = 0, size: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(2, size), nn.BatchNorm1d(size))
    return network, torch.optim.AdamW(network.parameters())


def step(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    network(torch.randn(5, 2)).square().sum().backward()
    optimiser.step()


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_weights_statistics_and_optimiser_come_back(tmp_path: Path):
    run, (network, optimiser) = TrainingRun(tmp_path / "run", SETTINGS), make()
    assert run.load(network, optimiser) == 0
    step(network, optimiser)
    run.save(network, optimiser, 1)
    other, its = make(seed=1)
    assert TrainingRun(tmp_path / "run", SETTINGS).load(other, its) == 1
    assert same(network, other)
    for pair in ((network, optimiser), (other, its)):
        torch.manual_seed(5)
        step(*pair)
    assert same(network, other)


def test_settings_are_kept_and_others_refused(tmp_path: Path):
    run = TrainingRun(tmp_path, SETTINGS)
    assert not list(tmp_path.iterdir())  # nothing before the run starts: it may fail to
    run.load(*make())
    assert json.loads((tmp_path / "config.json").read_text()) == SETTINGS
    with pytest.raises(ValueError, match="expected steps 4, found 5; expected stages"):
        TrainingRun(tmp_path, {**SETTINGS, "steps": 5, "stages": {}})


def test_where_it_is_computed_may_change(tmp_path: Path):
    TrainingRun(tmp_path, SETTINGS).load(*make())
    TrainingRun(tmp_path, {**SETTINGS, "device": "cuda"}).load(*make())
    assert json.loads((tmp_path / "config.json").read_text())["device"] == "cuda"


def test_metrics_after_the_state_are_dropped(tmp_path: Path):
    run, pair = TrainingRun(tmp_path, SETTINGS), make()
    run.load(*pair)
    for number in (1, 2, 3):
        run.note({"step": number, "loss": 0.5})
        if number == 2:
            run.save(*pair, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\0\0{"a": {}}\n{"step": 4, "lo')  # the power was cut here
    assert TrainingRun(tmp_path, SETTINGS).load(*make()) == 2
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_what_a_killed_save_left_is_ignored(tmp_path: Path):
    run, pair = TrainingRun(tmp_path, SETTINGS), make()
    run.load(*pair)
    run.save(*pair, 2)
    (tmp_path / "train_state.pt.99@elsewhere.partial").write_bytes(b"PK half a file")
    assert TrainingRun(tmp_path, SETTINGS).load(*make()) == 2


def test_a_full_disk_leaves_the_state_before(tmp_path: Path):
    run, pair = TrainingRun(tmp_path, SETTINGS), make()
    run.load(*pair)
    run.save(*pair, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="train_state.pt"):
            run.save(*pair, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.glob("train_state*")] == ["train_state.pt"]
    assert TrainingRun(tmp_path, SETTINGS).load(*make()) == 2


@pytest.mark.parametrize("damage", [b"", b"PK half a file"])
def test_a_damaged_state_is_named(tmp_path: Path, damage: bytes):
    (tmp_path / "train_state.pt").write_bytes(damage)
    with pytest.raises(ValueError, match=r"train_state.pt, found a damaged file .*delete it"):
        TrainingRun(tmp_path, SETTINGS).load(*make())


def test_another_networks_state_is_named(tmp_path: Path):
    run, pair = TrainingRun(tmp_path, SETTINGS), make()
    run.load(*pair)
    run.save(*pair, 1)
    with pytest.raises(ValueError, match=r"found a damaged file or another network's"):
        TrainingRun(tmp_path, SETTINGS).load(*make(size=4))


def test_a_state_that_is_not_finite_is_not_written(tmp_path: Path):
    run, (network, optimiser) = TrainingRun(tmp_path, SETTINGS), make()
    run.load(network, optimiser)
    run.save(network, optimiser, 1)
    network[1].running_mean[0] = torch.inf
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        run.save(network, optimiser, 2)
    assert TrainingRun(tmp_path, SETTINGS).load(*make()) == 1


def test_a_state_is_written_as_it_was_once_the_next_step_proves_it(tmp_path: Path):
    run, (network, optimiser) = TrainingRun(tmp_path, SETTINGS), make()
    run.load(network, optimiser)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    run.save_if_next_step_is_finite(network, optimiser, 1)
    assert not (tmp_path / "train_state.pt").exists()
    step(network, optimiser)
    run.prove()
    run.prove()
    other, its = make(seed=1)
    assert TrainingRun(tmp_path, SETTINGS).load(other, its) == 1
    assert all(torch.equal(value, expected[name]) for name, value in other.state_dict().items())


def test_another_rate_is_kept_with_the_state(tmp_path: Path):
    def begin(rate: float) -> TrainingRun:
        return TrainingRun(tmp_path, {**SETTINGS, "optimiser": {"learning_rate": rate}})

    run, pair = begin(0.1), make()
    run.load(*pair)
    run.save(*pair, 2)
    expected = ["optimiser.learning_rate was 0.1 until step 2, then 0.01"]
    for _ in range(2):  # nothing was saved in between
        run = begin(0.01)
        run.load(*pair)
        assert run.changes == expected
    run.save(*pair, 3)
    run = begin(0.01)
    run.load(*pair)
    assert run.changes == expected
