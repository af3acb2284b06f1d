"""Find a world model by path, once per process."""

import functools
from pathlib import Path

from world_models.base import WorldModel
from world_models.vid2world.model import load_vid2world

BUNDLED = Path(__file__).parent / "weights" / "standin.safetensors"
"""A small world model of the stand-in robot, trained by this project."""


def load_world_model(checkpoint: str | None = None) -> WorldModel:
    """Return the model at `checkpoint` (a `.safetensors` file with its card), or the bundled one.

    The same file is loaded once per process and shared.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: Not a whole world model checkpoint.
    """
    return _load(Path(checkpoint).resolve() if checkpoint is not None else BUNDLED)


@functools.lru_cache(maxsize=2)
def _load(path: Path) -> WorldModel:
    return load_vid2world(path)
