"""Run a consumer's own loop in the interpreter that has the consumer installed."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def results_of() -> Callable[..., Any]:
    """Run a program of this folder with the interpreter that a variable names, once.

    Returns:
        `results_of(program, variable, *arguments)`: what the program printed last, which is JSON.
    """
    known: dict[tuple[str, ...], Any] = {}

    def run(program: str, variable: str, *arguments: str) -> Any:
        python = os.environ.get(variable)
        if not python:
            pytest.skip(f"{variable} does not name a Python interpreter that has the package")
        key = (program, python, *arguments)
        if key not in known:
            environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
            environment["PYTHONPATH"] = str(HERE.parents[1])
            done = subprocess.run(
                [python, HERE / program, *arguments],
                capture_output=True,
                check=False,
                env=environment,
                text=True,
                timeout=900,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            known[key] = json.loads(done.stdout.splitlines()[-1])
        return known[key]

    return run
