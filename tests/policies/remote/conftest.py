"""Interpreters for the other side of the connection."""

import os

import pytest


@pytest.fixture
def openpi_python() -> str:
    """Return a Python that has `openpi-client`."""
    python = os.environ.get("V2W_OPENPI_PYTHON")
    if not python:
        pytest.skip("V2W_OPENPI_PYTHON names no Python with openpi-client")
    return python
