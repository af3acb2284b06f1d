"""A model small enough to benchmark in seconds."""

import pytest
import torch

from v2w_gym.configs.checks import BenchConfig
from v2w_gym.evaluation.checks.bench.models import make_model
from v2w_gym.world_models.vid2world.model import Vid2World

WINDOW = 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Vid2World:
    return make_model(BenchConfig(size="tiny", window=WINDOW))
