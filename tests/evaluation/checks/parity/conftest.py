import os
from pathlib import Path

import pytest
import torch

from v2w_gym.evaluation.checks.parity.vectors import load_vector


@pytest.fixture
def kept():
    """Folder of a few vectors; the others are recorded data that is not ours to keep here."""
    return Path(__file__).parents[3] / "golden" / "vectors"


@pytest.fixture(scope="session")
def vector_path():
    """Return where a vector lies that is not kept here."""

    def find(name):
        if "V2W_PARITY_DIR" not in os.environ:
            pytest.skip("V2W_PARITY_DIR names no folder of reference test vectors")
        return next(Path(os.environ["V2W_PARITY_DIR"]).rglob(f"{name}.json"))

    return find


@pytest.fixture(scope="session")
def rt1_vector(vector_path):
    return load_vector(vector_path("rt1"))


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
