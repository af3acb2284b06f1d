from pathlib import Path

import pytest
import torch


@pytest.fixture
def golden():
    """Folder of a few golden cases; the others are recorded data that is not ours to keep here."""
    return Path(__file__).parents[3] / "golden"


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
