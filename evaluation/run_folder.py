"""A folder of results that the same command continues, and that refuses another's."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from world_models.checkpoint import replacing

IDENTITY = "run.json"


def open_run_folder(path: Path, identity: Mapping[str, Any]) -> Path:
    """Create a folder, or open the one that was created with the same identity.

    Args:
        path: The folder.
        identity: JSON values that decide what the results mean: settings and fingerprints.

    Raises:
        OSError: The folder cannot be written.
        ValueError: The folder holds the results of another identity.
    """
    check_writable(path)
    identity = json.loads(json.dumps(identity))
    file = path / IDENTITY
    if not file.exists():
        with replacing(file) as partial:
            partial.write_text(json.dumps(identity, indent=2) + "\n")
    earlier = json.loads(file.read_text())
    if earlier != identity:
        name, expected, found = _first_difference("", earlier, identity)
        raise ValueError(
            f"{path} holds another run: expected {name} {expected!r}, found {found!r}; choose "
            "another folder with output=..., or delete this one"
        )
    return path


def _first_difference(name: str, expected: Any, found: Any) -> tuple[str, Any, Any]:
    """Return where two JSON values differ, as `a.b`, and what is there."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in {**found, **expected}:
            if expected.get(key) != found.get(key):
                inside = f"{name}.{key}" if name else key
                return _first_difference(inside, expected.get(key), found.get(key))
    return name, expected, found


def check_writable(folder: Path) -> None:
    """Create a folder if need be, and check that files can be written there.

    Raises:
        OSError: They cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            f"expected a folder that can be written at {folder}, found: {error.strerror}; "
            "choose another one with output=..."
        ) from error
