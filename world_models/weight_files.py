"""Read weights as hubs and training frameworks store them; no code in a file ever runs.

safetensors, PyTorch's zip files, and either of them in parts with an index.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from v2w_gym.world_models.downloads import (
    check_checksums,
    check_download,
    check_not_lfs_pointer,
    published_digest,
)

INDEX = ".index.json"
"""How the name of an index ends; before it stands the name that the whole file would have."""
PART = re.compile(r"(?P<stem>.+)-\d{5,}-of-(?P<count>\d{5,})(?P<ending>\.\w+)")
"""The name of a file that holds a part of the weights."""
LARGEST_JSON = 1 << 26
"""Bytes of the largest card or index that is read."""
HARMLESS = re.compile(
    r"(argparse|collections|datetime|decimal|enum|fractions|lightning|lightning_fabric|numpy"
    r"|omegaconf|pathlib|pytorch_lightning|types|typing|uuid)\..+"
    r"|builtins\.(bool|dict|float|frozenset|int|list|object|range|slice|str|tuple)"
    r"|torch\.torch_version\.TorchVersion"
)
"""Objects that frameworks store beside weights; a `Placeholder` takes their place."""
MAPPINGS = re.compile(r".+\.(defaultdict|AttributeDict)")
"""Those of them that are filled like a dict."""
STRIP = (
    "open it where you trust it and save its state_dict alone: torch.save({'state_dict': "
    "torch.load(OLD, weights_only=False)['state_dict']}, NEW)"
)
"""What to do about other objects."""


class Placeholder:
    """Stands for an object that is not needed; it takes whatever it is given and keeps nothing."""

    def __new__(cls, *_: Any) -> "Placeholder":
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, _: Any) -> None:
        """Take any state."""


class PlaceholderDict:
    """Stands for a mapping that is not needed."""

    def __new__(cls, *_: Any) -> Any:
        """Return a dict, the one thing that may be filled while weights are read."""
        return {}


def read_weights(path: Path) -> dict[str, Any]:
    """Return what a file holds: names and weights, or containers of such.

    The weights stay in the file until they are used. Only floating-point numbers are weights.

    Args:
        path: The file, or the index of one that is stored in parts.

    Raises:
        FileNotFoundError: No such file, or a part is missing.
        ValueError: Truncated, damaged, a part alone, or holding objects that could run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no such file")
    for file in files_of(path):
        check_download(file)
        if not is_safetensors(file) and published_digest(file) is None:
            _check_zip(file)
    return open_weights(path)


def open_weights(path: Path) -> dict[str, Any]:
    """Return what `read_weights` does for a file that it has checked already."""
    stored: dict[str, Any] = {}
    for file in files_of(path):
        found = read_safetensors(file) if is_safetensors(file) else _read_pickled(file)
        if twice := sorted(set(stored) & set(found)):
            raise ValueError(f"expected each weight in one part of {path}, found {twice[:3]} twice")
        stored |= found
    return stored


def files_of(path: Path) -> list[Path]:
    """Return the files that the weights at `path` lie in: itself, or all parts of an index.

    Raises:
        FileNotFoundError: A part is missing.
        ValueError: A part alone, or a damaged index.
    """
    if not path.name.endswith(INDEX):
        _check_whole(path)
        return [path]
    index = read_json(path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not all(map(_is_name, places.values())):
        raise ValueError(
            f"expected an index with a weight_map of file names in {path}, found another; download "
            "it again"
        )
    parts = [path.with_name(name) for name in sorted(set(places.values()))]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise FileNotFoundError(
            f"expected all {len(parts)} parts beside {path}, found no {', '.join(missing[:3])}; "
            "download them too"
        )
    return parts


def is_part(path: Path) -> bool:
    """Whether a file's name says that it holds a part of the weights only."""
    named = PART.fullmatch(path.name)
    return named is not None and int(named["count"]) > 1


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, by its first bytes: a file in a hub's cache has no ending."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or path.suffix == ".safetensors"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the weights of a safetensors file.

    Raises:
        ValueError: Truncated, or something else.
    """
    if zipfile.is_zipfile(path):
        raise ValueError(
            f"expected whole safetensors weights at {path}, found a file of PyTorch; rename it so "
            "that it ends in .ckpt"
        )
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(
            f"expected whole safetensors weights at {path}, found {one_line(error)}; copy or "
            "download the file again"
        ) from error


def read_json(path: Path) -> Any:
    """Return what a small JSON file holds; None if there is none, or if it cannot be read.

    Raises:
        ValueError: A pointer of git-LFS.
    """
    if path.is_file():
        check_not_lfs_pointer(path)
    try:
        if path.stat().st_size > LARGEST_JSON:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def one_line(error: object) -> str:
    """Return the first line of a message, without characters that a terminal would obey."""
    first = str(error).strip().partition("\n")[0]
    return "".join(letter for letter in first if letter.isprintable())[:300]


def _is_name(value: object) -> bool:
    """Whether a value is a plain file name, which leads nowhere else."""
    return isinstance(value, str) and Path(value).name == value and "\0" not in value


def _check_whole(path: Path) -> None:
    named = PART.fullmatch(path.name)
    if named is not None and is_part(path):
        raise ValueError(
            f"expected all weights, found {path}, one of {int(named['count'])} parts; name its "
            f"folder or the index beside it, {named['stem']}{named['ending']}{INDEX}"
        )


def _check_zip(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"expected a whole PyTorch checkpoint (a zip file, since PyTorch 1.6) at {path}, found "
            "none: it is truncated, older, or something else"
        )
    check_checksums(path)


def _read_pickled(path: Path) -> dict[str, Any]:
    with _reading(path):
        names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    if unknown := [name for name in names if not HARMLESS.fullmatch(name)]:
        raise ValueError(
            f"expected only tensors and plain values in {path}, found other Python objects, which "
            f"could run code: {unknown[:3]}; {STRIP}"
        )
    stands_for: list[Any] = [
        (PlaceholderDict if MAPPINGS.fullmatch(n) else Placeholder, n) for n in names
    ]
    with _reading(path), torch.serialization.safe_globals(stands_for):
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if not isinstance(stored, dict):
        raise ValueError(
            f"expected a checkpoint with named weights at {path}, found {type(stored)}"
        )
    return stored


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say in one line what PyTorch finds wrong with a file."""
    try:
        yield
    except pickle.UnpicklingError as error:
        found = one_line(str(error).rpartition("WeightsUnpickler error: ")[2])
        raise ValueError(
            f"expected only tensors and plain values in {path}, found others ({found}); {STRIP}"
        ) from error
    except (RuntimeError, EOFError, LookupError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"expected a whole PyTorch checkpoint at {path}, found {one_line(error)}; it is "
            "truncated or something else"
        ) from error
