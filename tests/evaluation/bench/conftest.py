"""A model small enough to benchmark in seconds."""

import pytest
import torch

from configs.bench import BenchConfig
from evaluation.bench.models import make_model
from world_models.vid2world.model import Vid2World

WINDOW = 4


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> Vid2World:
    """A new one for each test: what one has recorded would be replayed in the next."""
    return make_model(BenchConfig(size="tiny", window=WINDOW))
