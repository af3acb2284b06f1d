"""What an interrupted run needs to go on: written whole, or refused in one line."""

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
"""What reading something else than the state of this run raises."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values with torch.save; an interruption leaves the older state.

    Raises:
        OSError: It could not be written; the state before it is still there.
    """
    with replacing(path) as partial:
        try:
            torch.save(state, partial)
        except RuntimeError as error:
            raise OSError(f"expected to write {path}, found {error}; is the disk full?") from error


@contextmanager
def reading_state(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a state, in CPU memory, to restore from.

    What goes wrong inside the block, such as a missing name, is one line that names the file.

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
