"""What the tests of several packages need."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BUILDER = Path(__file__).parent / "policies" / "tensorflow" / "build_saved_model.py"


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the SavedModel that settings of `build_saved_model.py` describe, once for each."""
    python = os.environ.get("V2W_TF_PYTHON")
    if not python:
        pytest.skip("V2W_TF_PYTHON does not name a Python interpreter with TensorFlow")
    built: dict[str, Path] = {}

    def build(**settings: Any) -> Path:
        told = json.dumps(settings)
        if told not in built:
            output = tmp_path_factory.mktemp("saved_model") / "model"
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
            environment.pop("PYTHONPATH", None)
            subprocess.run([python, BUILDER, output, told], check=True, env=environment)
            built[told] = output
        return built[told]

    return build
