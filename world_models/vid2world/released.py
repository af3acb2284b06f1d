"""The published checkpoints: read one, see what it is, and make a world model of it.

Which name is which weight stands in `layout`.
"""

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from configs.model import DiffusionConfig
from configs.released import TextConfig
from world_models.diffusion import released_buffers
from world_models.vid2world.clip import ClipTextTower, empty_prompt
from world_models.vid2world.describe import describe, is_causal
from world_models.vid2world.layout import (
    NETWORK,
    PROMPT,
    fill,
    released_shapes,
    sources,
    text_sources,
)
from world_models.vid2world.model import Vid2World
from world_models.vid2world.released_names import Shape

UNREAD_TABLES = {*released_buffers(DiffusionConfig(), zero_terminal_snr=True), "lvlb_weights"}
"""What a checkpoint may hold of its noise schedule, which is made anew here."""


@dataclass(frozen=True)
class Released:
    """A checkpoint in the released format, not yet translated.

    Attributes:
        path: Where it lies.
        weights: Released name -> weight, read from the file when it is used.
    """

    path: Path
    weights: Mapping[str, Tensor]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Released name -> shape."""
        return {name: tuple(value.shape) for name, value in self.weights.items()}

    @property
    def causal(self) -> bool:
        """Whether it is a Vid2World model, and not the base that those come from."""
        return is_causal(self.shapes)


def read_released(path: Path) -> Released:
    """Open a checkpoint without running code in it and without reading all of it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated, not a checkpoint, or holding more than tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no such file")
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    for container, prefix in (("state_dict", ""), ("module", "_forward_module.")):
        if isinstance(stored.get(container), dict):
            stored = {k.removeprefix(prefix): v for k, v in stored[container].items()}
    weights = {name: value for name, value in stored.items() if isinstance(value, Tensor)}
    if not any(name.startswith(NETWORK) for name in weights):
        raise ValueError(
            f"expected a Vid2World or DynamiCrafter checkpoint at {path}, with weights named "
            f"{NETWORK}..., found {len(weights)} tensors {sorted(weights)[:3]}"
        )
    return Released(path, weights)


def load_released(released: Released, robot: str | None = None) -> Vid2World:
    """Make a model of a checkpoint; it shares the checkpoint's memory.

    The model of a base checkpoint is not causal and knows no actions: `causalize` goes on from it.

    Args:
        released: What `read_released` gave.
        robot: Whose model it should be; None reads it off the action layers.

    Raises:
        ValueError: Another robot's checkpoint, or missing, surplus or misshapen weights.
    """
    try:
        cfg, text = describe(released.shapes, robot)
        expected = released_shapes(cfg, text)
    except KeyError as error:
        raise ValueError(
            f"expected weight {error.args[0]!r} in {released.path}, found none; the checkpoint is "
            "incomplete or of another model"
        ) from error
    except (IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"expected the shapes of a Vid2World model in {released.path}, found others ({error})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{error}; the checkpoint is {released.path}") from error
    _check_complete(released, expected)
    with torch.device("meta"):
        model = Vid2World(cfg)
    fill(model, sources(model), released.weights)
    prompt = embed_empty_prompt(released.path, text)
    model.load_state_dict({PROMPT: prompt}, strict=False, assign=True)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def embed_empty_prompt(path: Path, text: TextConfig) -> Tensor:
    """Return what the text tower of a checkpoint makes of the empty prompt: (L, D).

    The file is opened apart for it, so that the memory of the tower is let go at once.
    """
    with torch.device("meta"):
        tower = ClipTextTower(text.clip, text.vocabulary)
    fill(tower, text_sources(tower), read_released(path).weights)
    embedding: Tensor = tower.eval()(empty_prompt(text.vocabulary))
    return embedding[0].clone()


def _check_complete(released: Released, expected: Mapping[str, Shape]) -> None:
    """Refuse a checkpoint that is not exactly what its sizes call for, schedule tables aside."""
    found = {name: shape for name, shape in released.shapes.items() if name not in UNREAD_TABLES}
    expected = {name: shape for name, shape in expected.items() if name not in UNREAD_TABLES}
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    misshapen = [n for n in expected if n in found and found[n] != expected[n]]
    if missing or surplus:
        raise ValueError(
            f"expected exactly the {len(expected)} weights of its kind in {released.path}, found "
            f"{len(missing)} missing {missing[:3]} and {len(surplus)} unknown {surplus[:3]}"
        )
    if misshapen:
        name = misshapen[0]
        raise ValueError(
            f"expected {name} of shape {expected[name]} in {released.path}, found {found[name]} "
            f"({len(misshapen)} weights of another shape)"
        )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"expected whole safetensors weights at {path}, found {error}") from error


def _read_pickled(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"expected a whole PyTorch checkpoint (a zip file, since PyTorch 1.6) at {path}, found "
            "none: it is truncated, older, or something else"
        )
    try:
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"expected only tensors and plain values in {path}, found other Python objects, which "
            "could run code; open it where you trust it and save its state_dict alone "
            f"({str(error).partition(chr(10))[0]})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(
            f"expected a whole PyTorch checkpoint at {path}, found {_first_line(error)}; it is "
            "truncated or something else"
        ) from error
    if not isinstance(stored, dict):
        raise ValueError(
            f"expected a checkpoint with named weights at {path}, found {type(stored)}"
        )
    return stored


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
