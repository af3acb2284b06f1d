"""Checkpoints: weights in a safetensors file, beside a JSON card that describes them."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from reprlib import repr as shorten
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from v2w_gym.configs.loader import from_mapping
from v2w_gym.world_models.downloads import check_download, published_digest
from v2w_gym.world_models.files import replacing, sha256_of, write_text
from v2w_gym.world_models.weight_files import one_line, read_json, read_safetensors

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)
Shapes = Mapping[str, tuple[int, ...]]
SHA256 = re.compile(r"[0-9a-f]{64}")


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write `path` (.safetensors) and its card.

    Args:
        path: File of the weights; the card beside it ends in `.json`.
        tensors: Named weights, stored in their own dtype.
        card: JSON values: kind, config, robot, provenance. The file's sha256 is added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        except SafetensorError as error:
            raise OSError(f"expected to write {path}, found {error}; is the disk full?") from error
        partial.chmod(0o644)  # safetensors makes files that only their owner may read
        card = {**card, "sha256": sha256_of(partial)}
    write_text(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")


def check_free(path: Path) -> None:
    """Check that a checkpoint at `path` would overwrite no other kind of file.

    Raises:
        ValueError: A path that does not end in .safetensors, or another file in the card's place.
    """
    card = path.with_suffix(".json")
    if path.suffix != ".safetensors" or path.is_dir():
        raise ValueError(f"expected output to be a file that ends in .safetensors, found {path}")
    if card.exists() and _as_card(card) is None:
        raise ValueError(f"expected {card} to be free for the card, found another file there")


def load_checkpoint(path: Path, *, finite: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights and the card.

    Args:
        path: File of the weights, with the card beside it.
        finite: Whether to refuse NaN and infinity; False for a caller that checks this itself.

    Raises:
        FileNotFoundError: No weights or no card at `path`.
        ValueError: Truncated or foreign weights, weights that do not match the card, or weights
            that are not finite.
    """
    for needed in (path, card_of(path)):
        if not needed.is_file():
            raise FileNotFoundError(
                f"expected a checkpoint ({path.name} and {path.stem}.json) in {path.parent}, "
                f"found no {needed.name}"
            )
    check_download(card_of(path))
    card = _as_card(card_of(path))
    if card is None:
        raise ValueError(
            f"expected a card with a kind and a sha256 in {card_of(path)}, found "
            "something else; copy weights and card again"
        )
    _check_sha256(path, card["sha256"])
    tensors = read_safetensors(path)
    if finite:
        check_finite(path, tensors)
    return tensors, card


def _check_sha256(path: Path, expected: str) -> None:
    check_download(path)
    published = published_digest(path) or ""
    found = published if SHA256.fullmatch(published) else sha256_of(path)
    if found != expected:
        raise ValueError(
            f"expected {path} with sha256 {expected} as its card says, found {found}; "
            "the file is truncated or from another training run: copy weights and card again"
        )


def card_of(path: Path) -> Path:
    """Return the path of the card: beside the weights at `path`, or beside the file they link to.

    A hub's cache links both to files without an ending, so the given name comes first.
    """
    beside, behind = path.with_suffix(".json"), path.resolve().with_suffix(".json")
    linked = path.is_symlink() and _as_card(beside) is None and behind.is_file()
    return behind if linked else beside


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the card of the weights at `path`; None if there is none, or another file.

    Only safetensors files have one. A card beside `model.ckpt` belongs to a converted
    `model.safetensors`.
    """
    return _as_card(card_of(path)) if path.suffix == ".safetensors" else None


def fingerprint_of(card: Mapping[str, Any]) -> str:
    """Return the sha256 of a card, which includes that of the weights; rows and runs record it."""
    return hashlib.sha256(json.dumps(dict(card), sort_keys=True).encode()).hexdigest()


def card_without_checkpoint(
    kind: str,
    robot: str,
    window: int,
    settings: object = "",
    weights: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the card of a world model without a file, with a digest of its weights."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in weights.items():
        exact = value.float() if value.dtype == torch.bfloat16 else value  # NumPy has no bfloat16
        digest.update(name.encode() + exact.cpu().numpy().tobytes())
    return {"kind": kind, "robot": robot, "window": window, "weights": digest.hexdigest()}


def _as_card(file: Path) -> dict[str, Any] | None:
    card = read_json(file)
    if not isinstance(card, dict) or not isinstance(card.get("kind"), str):
        return None
    return card if SHA256.fullmatch(str(card.get("sha256"))) else None


def config_on_card(path: Path, card: Mapping[str, Any], name: str, schema: type[Config]) -> Config:
    """Return the settings under `name` on the card of the weights at `path`.

    Raises:
        ValueError: Missing or unknown settings, or values of another type.
    """
    settings = card.get(name)
    if not isinstance(settings, dict) or not _is_plain(settings):
        raise ValueError(
            f"expected plain settings under {name!r} on the card {card_of(path)}, found "
            f"{shorten(settings)}; copy weights and card again"
        )
    try:
        return from_mapping(schema, settings, str(card_of(path)))
    except ValueError as error:
        raise ValueError(one_line(error)) from error


def _is_plain(value: object, depth: int = 8) -> bool:
    """Whether a JSON value is a plain setting: without `${...}` or ???, and not deeply nested."""
    if isinstance(value, dict | list):
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(entry, depth - 1) for entry in inside)
    if isinstance(value, str):
        return value.isprintable() and "${" not in value and value != "???"
    return not isinstance(value, int) or abs(value) < 2**63


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite, with which a model would imagine black frames.

    Raises:
        ValueError: NaN or infinity; the message names the first such weight.
    """
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            broken = int((~tensor.float().isfinite()).sum())
            raise ValueError(
                f"expected finite weights at {path}, found {broken} of {tensor.numel()} values NaN "
                f"or infinite in {name!r}; the training diverged or overflowed half precision: "
                "take an earlier checkpoint"
            )


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are finite; takes one pass over the tensor and no extra memory."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() == 1:  # `aminmax` does not support 8-bit floats
        tensor = tensor.half()
    return all(bool(bound.isfinite()) for bound in tensor.aminmax())


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_shapes(what: str, found: Shapes, expected: Shapes) -> None:
    """Check that weights have exactly the names and shapes of a network.

    Raises:
        ValueError: Missing, unknown or misshapen weights; `what` describes the expected ones.
    """
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or surplus:
        raise ValueError(
            f"expected {what}, found {len(missing)} missing {missing[:3]} and {len(surplus)} "
            f"unknown {surplus[:3]}"
        )
    misshapen = [name for name in expected if found[name] != expected[name]]
    if misshapen:
        name = misshapen[0]
        raise ValueError(
            f"expected {what}: expected {name} of shape {expected[name]} there, found "
            f"{found[name]} ({len(misshapen)} weights of another shape)"
        )


def make_network(path: Path, make: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network:
    """Return a network with the weights of the checkpoint at `path`.

    Names and shapes are checked first, on a meta device. Integers among the weights, such as the
    batch counts of batch norms, are left out.

    Raises:
        ValueError: Missing, unknown or misshapen weights.
    """
    with torch.device("meta"):
        weights = fitting_weights(path, make(), tensors)
    network = make()
    network.load_state_dict(weights)
    return network


def fitting_weights(
    path: Path, network: nn.Module, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights among `tensors` if they match a network exactly.

    Raises:
        ValueError: Missing, unknown or misshapen weights.
    """
    weights, expected = floats(tensors), floats(network.state_dict())
    what = f"the weights of the network on the card of {path}"
    check_shapes(what, shapes_of(weights), shapes_of(expected))
    return weights


def floats(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of floating-point numbers."""
    return {name: value for name, value in tensors.items() if value.is_floating_point()}


def check_kind(path: Path, card: Mapping[str, Any], kind: str, *needed: str) -> None:
    """Check the kind of a checkpoint, and that its card has the needed entries.

    Raises:
        ValueError: Another kind, or a missing entry.
    """
    if card.get("kind") != kind:
        raise ValueError(f"expected a {kind} checkpoint at {path}, found {card.get('kind')!r}")
    if missing := [name for name in needed if name not in card]:
        raise ValueError(
            f"expected {', '.join(needed)} on the card of {path}, found no {', '.join(missing)}; "
            "copy weights and card again"
        )
