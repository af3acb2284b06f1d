"""A published RT-1 or RT-1-X SavedModel, served from a Python with TensorFlow."""

import hashlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from v2w_gym.configs.robots import FRACTAL13, RobotSpec
from v2w_gym.policies.instructions import InstructionTable
from v2w_gym.policies.remote.server_process import module_command
from v2w_gym.policies.remote.started import StartedPolicy
from v2w_gym.policies.rt1.saved_variables import find_index
from v2w_gym.world_models.downloads import check_not_lfs_pointer

SERVER = "v2w_gym.policies.adapters.saved_model_server"
PYTHON_VARIABLE = "V2W_TF_PYTHON"
TIMEOUT = 120.0
"""Seconds for one action; RT-1 takes about one on two cores."""


def load_saved_model(
    path: Path, robot: RobotSpec, table: InstructionTable, python: str | None = None
) -> StartedPolicy:
    """Start a server of the SavedModel in folder `path`; the policy is named after the folder.

    Args:
        path: Folder with `saved_model.pb` and `variables`.
        robot: The robot on which the policy acts.
        table: Its instructions, with embeddings of the Universal Sentence Encoder.
        python: Interpreter that has TensorFlow; None for the result of `find_python`.

    Raises:
        FileNotFoundError: Part of the SavedModel is missing.
        ValueError: Part of it is damaged or not downloaded, it is no such policy, or no interpreter
            has TensorFlow.
        OSError: The server cannot be started.
    """
    if (layout := robot.action_layout.name) != FRACTAL13.name:
        raise ValueError(
            f"expected a robot with actions {FRACTAL13.name!r}, found {robot.name!r} with "
            f"{layout!r}"
        )
    settings = {
        "path": str(path),
        "name": path.name,
        "fingerprint": fingerprint_of(path),
        "texts": list(table.texts),
        "vectors": table.vectors,
    }
    command = module_command(find_python(python), SERVER)
    return StartedPolicy(
        command, settings, path.name, TIMEOUT, lambda text: table.texts[table.row(text)]
    )


def find_python(given: str | None) -> str:
    """Return an interpreter that has TensorFlow.

    It tries, in this order: `given`, the variable V2W_TF_PYTHON, and this interpreter.

    Raises:
        ValueError: None has TensorFlow; the message says how to install it.
    """
    named = given or os.environ.get(PYTHON_VARIABLE)
    if named and shutil.which(named):
        return named
    if not named and importlib.util.find_spec("tensorflow"):
        return sys.executable
    raise ValueError(
        f"expected a Python interpreter with TensorFlow, found {named or 'none'}; run: pip install "
        "'.[tensorflow]', or make another one with `python3 -m venv tf && tf/bin/pip install "
        "tensorflow-cpu==2.21.0 msgpack websockets` and set python=tf/bin/python, or "
        f"{PYTHON_VARIABLE}=tf/bin/python in the environment"
    )


def fingerprint_of(path: Path) -> str:
    """Return the sha256 of a SavedModel's graph and index, which has the weights' checksums.

    Raises:
        FileNotFoundError: Part of the SavedModel is missing.
        ValueError: Part of it was not downloaded.
    """
    graph = path / "saved_model.pb"
    if not graph.is_file():
        raise FileNotFoundError(
            f"expected the folder of a SavedModel, with saved_model.pb and variables, found no "
            f"{graph}; unpack the archive, or name the folder that contains saved_model.pb"
        )
    index = find_index(path)
    for file in (graph, index):
        check_not_lfs_pointer(file)
    return hashlib.sha256(index.read_bytes() + graph.read_bytes()).hexdigest()
