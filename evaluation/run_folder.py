"""A folder of results that the same command continues, and that refuses another's."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from v2w_gym.world_models.files import check_writable
from v2w_gym.world_models.run_folder import check_identity, note_identity

IDENTITY = "run.json"


def open_run_folder(
    path: Path, identity: Mapping[str, Any], may_differ: Collection[str] = ()
) -> Path:
    """Create a folder, or open the one that was created with the same identity.

    Args:
        path: The folder.
        identity: JSON values that decide what the results mean: settings and fingerprints.
        may_differ: Names of those in it that are only noted, nested ones as `a.b`.

    Raises:
        OSError: The folder cannot be written.
        ValueError: The folder holds the results of another identity.
    """
    check_writable(path)
    check_identity(path / IDENTITY, identity, may_differ)
    note_identity(path / IDENTITY, identity)
    return path
