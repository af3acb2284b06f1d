"""One file format for weights: safetensors beside a JSON card that says what they are."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from world_models.files import check_not_lfs_pointer

__all__ = ["check_not_lfs_pointer"]


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write `path` (.safetensors) and its card; an interruption leaves the old pair or the new one.

    Args:
        path: Where the weights go; the card lies beside it with the ending `.json`.
        tensors: Named weights, stored in their own dtype.
        card: JSON values: kind, config, robot, provenance. The file's sha256 is added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        except SafetensorError as error:
            raise OSError(f"expected to write {path}, found {error}; is the disk full?") from error
        partial.chmod(0o644)  # safetensors keeps its files to their owner
        card = {**card, "sha256": sha256_of(partial)}
    with replacing(path.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n")


def check_free(path: Path) -> None:
    """Check that a checkpoint written to `path` takes the place of nothing but a checkpoint.

    Raises:
        ValueError: Not a name for weights, or another file where the card would lie.
    """
    card = path.with_suffix(".json")
    if path.suffix != ".safetensors" or path.is_dir():
        raise ValueError(f"expected output to be a file that ends in .safetensors, found {path}")
    if card.exists() and read_card(path) is None:
        raise ValueError(f"expected {card} to be free for the card, found another file there")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of `path` only if nothing goes wrong."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what a run needs to go on, with torch.save; an interruption leaves the older state.

    Raises:
        OSError: It could not be written; the state before it is still there.
    """
    with replacing(path) as partial:
        try:
            torch.save(state, partial)
        except RuntimeError as error:
            raise OSError(f"expected to write {path}, found {error}; is the disk full?") from error


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights and the card.

    Raises:
        FileNotFoundError: No weights or no card at `path`.
        ValueError: Truncated or foreign weights, or weights that are not the ones on the card.
    """
    for needed in (path, path.with_suffix(".json")):
        if not needed.is_file():
            raise FileNotFoundError(
                f"expected a checkpoint ({path.name} and {path.stem}.json) in {path.parent}, "
                f"found no {needed.name}"
            )
    card = read_card(path)
    if card is None:
        raise ValueError(
            f"expected a card with a kind and a sha256 in {path.with_suffix('.json')}, found "
            "something else; copy weights and card again"
        )
    found = sha256_of(path)
    if found != card["sha256"]:
        raise ValueError(
            f"expected {path} with sha256 {card['sha256']} as its card says, found {found}; "
            "the file is truncated or from another training run: copy weights and card again"
        )
    try:
        return load_file(path), card
    except SafetensorError as error:
        raise ValueError(f"expected safetensors weights in {path}, found {error}") from error


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the card beside the weights at `path`; None if there is no card, or another file."""
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return card if isinstance(card, dict) and {"kind", "sha256"} <= set(card) else None


def check_kind(path: Path, card: Mapping[str, Any], kind: str, *needed: str) -> None:
    """Refuse a checkpoint of another kind, or one whose card lacks something that is needed.

    Raises:
        ValueError: The card says the weights are something else, or too little of them.
    """
    if card.get("kind") != kind:
        raise ValueError(f"expected a {kind} checkpoint at {path}, found {card.get('kind')!r}")
    if missing := [name for name in needed if name not in card]:
        raise ValueError(
            f"expected {', '.join(needed)} on the card of {path}, found no {', '.join(missing)}; "
            "copy weights and card again"
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
