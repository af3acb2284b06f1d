"""Files with the state of an interrupted run."""

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from v2w_gym.world_models.files import replacing

DAMAGED = (
    *(AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError),
    *(FloatingPointError, OSError, pickle.UnpicklingError),
)
"""Exceptions of reading a file that is not the state of this run."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values with torch.save; an interruption keeps the older state.

    Raises:
        OSError: The file could not be written; the older state is intact.
    """
    with replacing(path) as partial:
        try:
            torch.save(state, partial)
        except RuntimeError as error:
            raise OSError(f"expected to write {path}, found {error}; is the disk full?") from error


@contextmanager
def reading_state(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the state in a file, in CPU memory.

    Any error inside the block, such as a missing name, becomes one line that names the file.

    Raises:
        ValueError: A file that is empty, damaged, of another network, or of another version.
    """
    try:
        yield torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise ValueError(
            f"expected the state of this run in {path}, found a damaged file, or one of another "
            f"network or version ({type(error).__name__}); delete it to start over, or choose "
            "another output=..."
        ) from error
