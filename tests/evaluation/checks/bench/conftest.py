"""A model small enough to benchmark in seconds."""

import pytest
import torch

from v2w_gym.configs.checks import BenchConfig
from v2w_gym.evaluation.checks.bench import measure
from v2w_gym.evaluation.checks.bench.counting import Cost
from v2w_gym.evaluation.checks.bench.models import make_model
from v2w_gym.world_models.vid2world.model import Vid2World

WINDOW = 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Vid2World:
    """A new one for each test."""
    return make_model(BenchConfig(size="tiny", window=WINDOW))


@pytest.fixture
def fast(monkeypatch):
    """Count no work."""
    for name, cost in (("step_costs", Cost(1, 2)), ("naive_costs", Cost(3, 4))):
        monkeypatch.setattr(measure, name, lambda model, steps, c=cost: dict.fromkeys(steps, c))
