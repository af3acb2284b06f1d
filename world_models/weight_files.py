"""Reading of weights in safetensors and PyTorch files, whole or sharded, without running code."""

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
"""Ending of an index's name, after the name of the whole file."""
PART = re.compile(r"(?P<stem>.+)-\d{5,}-of-(?P<count>\d{5,})(?P<ending>\.\w+)")
"""The name of a file with a part of the weights."""
LARGEST_JSON = 1 << 26
"""Most bytes of a card or index."""
HARMLESS = re.compile(
    r"(argparse|collections|datetime|decimal|enum|fractions|lightning|lightning_fabric|numpy"
    r"|omegaconf|pathlib|pytorch_lightning|types|typing|uuid)\..+"
    r"|builtins\.(bool|dict|float|frozenset|int|list|object|range|slice|str|tuple)"
    r"|torch\.torch_version\.TorchVersion"
)
"""Objects that frameworks store beside weights; a `Placeholder` replaces them."""
MAPPINGS = re.compile(r".+\.(defaultdict|AttributeDict)")
"""Harmless objects that unpickling fills like a dict."""
STRIP = (
    "if you trust it, open it and save its state_dict alone: torch.save({'state_dict': "
    "torch.load(OLD, weights_only=False)['state_dict']}, NEW)"
)
"""Advice about other objects."""


class Placeholder:
    """Replaces an unneeded object; it accepts any arguments and state, and keeps none."""

    def __new__(cls, *_: Any) -> "Placeholder":
        """Take any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, _: Any) -> None:
        """Take any state."""


class PlaceholderDict:
    """Replaces an unneeded mapping by a dict."""

    def __new__(cls, *_: Any) -> Any:
        """Return a dict, the only object that PyTorch fills while it reads weights."""
        return {}


def read_weights(path: Path) -> dict[str, Any]:
    """Return the content of a file: names and weights, or containers of them.

    The weights stay in the file until they are used. Only floating-point numbers are weights.

    Args:
        path: The file, or the index of a sharded one.

    Raises:
        FileNotFoundError: No such file, or a part is missing.
        ValueError: Truncated, damaged, a part alone, or with objects that could run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no such file")
    for file in files_of(path):
        check_download(file)
        if not is_safetensors(file) and published_digest(file) is None:
            _check_zip(file)
    return open_weights(path)


def open_weights(path: Path) -> dict[str, Any]:
    """Return the content of a file that `read_weights` has checked before."""
    stored: dict[str, Any] = {}
    for file in files_of(path):
        found = read_safetensors(file) if is_safetensors(file) else _read_pickled(file)
        if twice := sorted(set(stored) & set(found)):
            raise ValueError(f"expected each weight in one part of {path}, found {twice[:3]} twice")
        stored |= found
    return stored


def files_of(path: Path) -> list[Path]:
    """Return the files of the weights at `path`: itself, or all parts of an index.

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
    """Whether a file's name is that of one part of several."""
    named = PART.fullmatch(path.name)
    return named is not None and int(named["count"]) > 1


def is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors, by its first bytes; files in a hub's cache have no ending."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or path.suffix == ".safetensors"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the weights of a safetensors file.

    Raises:
        ValueError: A truncated or other file.
    """
    if zipfile.is_zipfile(path):
        raise ValueError(
            f"expected complete safetensors weights at {path}, found a PyTorch file; rename it to "
            "end in .ckpt"
        )
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(
            f"expected complete safetensors weights at {path}, found {one_line(error)}; copy or "
            "download the file again"
        ) from error


def read_json(path: Path) -> Any:
    """Return the content of a small JSON file; None if it is missing or cannot be read.

    Raises:
        ValueError: A git-LFS pointer.
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
    """Return the first line of a message, without control characters."""
    first = str(error).strip().partition("\n")[0]
    return "".join(letter for letter in first if letter.isprintable())[:300]


def _is_name(value: object) -> bool:
    """Whether a value is a plain file name, without a folder."""
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
    """Turn errors of PyTorch about a file into one line."""
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
