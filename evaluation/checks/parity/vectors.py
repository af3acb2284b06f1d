"""A reference test vector on disk, and comparisons with it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from v2w_gym.world_models.files import sha256_of


class Tolerance(NamedTuple):
    """The accepted difference: a share of the largest reference value, or of each; and more."""

    share: float
    plus: float = 0.0
    elementwise: bool = False

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.share:g} x {'own size' if self.elementwise else 'max'} + {self.plus:g}"


class Comparison(NamedTuple):
    """How far one tensor of ours is from the reference's.

    Attributes:
        name: Which tensor.
        relative: Largest difference over the largest reference value; 0 without a share of it.
        used: Largest difference over the accepted one: 1 is the limit.
        tolerance: The accepted one.
    """

    name: str
    relative: float
    used: float
    tolerance: Tolerance


def compare(name: str, ours: Tensor, reference: Tensor, tolerance: Tolerance) -> Comparison:
    """Compare two tensors; another shape, or a value that is no number, is infinitely far off."""
    if ours.shape != reference.shape:
        return Comparison(name, torch.inf, torch.inf, tolerance)
    pair = [torch.cat([t.detach().double().flatten(), torch.zeros(1)]) for t in (ours, reference)]
    difference, sizes = (pair[0] - pair[1]).abs(), pair[1].abs()  # with the zero never empty
    accepted = tolerance.plus + tolerance.share * (sizes if tolerance.elementwise else sizes.max())
    relative, used = (
        (difference / limit.clamp(min=1e-30)).nan_to_num(torch.inf, torch.inf).max().item()
        for limit in (sizes.max(), accepted)
    )
    return Comparison(name, relative if tolerance.share else 0.0, used, tolerance)


@dataclass(frozen=True)
class Vector:
    """Inputs, weights and outputs of one run of the reference implementation.

    Attributes:
        kind: What was run; a key of `v2w_gym.evaluation.checks.parity.parity.CHECKS`.
        info: The JSON beside the tensors: config, runs, tolerances.
        tensors: Everything in the `.safetensors`, by full name: `in/`, `out/`, `rng/`, `state/`.
        folder: Where it lies; some vectors share the weights of another one there.
    """

    kind: str
    info: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    folder: Path

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the weights by the reference's own names, which begin with `prefix` afterwards.

        Raises:
            ValueError: The file that holds them is missing or damaged.
        """
        source = self.info.get("state_from")
        tensors = _read_tensors(self.folder / source) if source else self.tensors
        named = {k[len("state/") :]: v for k, v in tensors.items() if k.startswith("state/")}
        if not named:
            raise ValueError(f"expected weights (state/...) in vector {self.kind!r}, found none")
        return {prefix + name.removeprefix(prefix): value for name, value in named.items()}

    def tensor(self, name: str) -> Tensor:
        """Return one tensor.

        Raises:
            ValueError: There is none of that name.
        """
        if name not in self.tensors:
            raise ValueError(f"expected tensor {name!r} in vector {self.kind!r}, found none")
        return self.tensors[name]

    def frames(self, name: str) -> Tensor:
        """Return one tensor (B, T, C, h, w), which is (B, C, T, h, w) in the file."""
        return self.tensor(name).transpose(1, 2)

    def compare(self, name: str, ours: Tensor, tolerance: Tolerance) -> Comparison:
        """Compare ours, in the layout of the file, with output `name`."""
        return compare(name, ours, self.tensor(f"out/{name}"), tolerance)

    def compare_given(
        self, ours: Mapping[str, Tensor], tolerance: Tolerance
    ) -> Iterator[Comparison]:
        """Compare those of our tensors that the vector has an output for."""
        for name, tensor in ours.items():
            if f"out/{name}" in self.tensors:
                yield self.compare(name, tensor, tolerance)


def load_vector(path: Path) -> Vector:
    """Read `<vector>.json` and the `.safetensors` beside it.

    Raises:
        ValueError: Unreadable, incomplete, or not the tensors that the JSON describes.
    """
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected a reference test vector at {path}, found {error}") from error
    if isinstance(info, dict) and {"seed_base", "names", "shapes"} <= set(info):
        info = {"case": "rt1", **info}  # only this one generates its weights, and it has no name
    if not isinstance(info, dict) or "case" not in info:
        raise ValueError(
            f"expected a reference test vector with a 'case' in {path}, found another JSON file"
        )
    weights = path.with_suffix(".safetensors")
    tensors = _read_tensors(weights)
    if "sha256" in info and sha256_of(weights) != info["sha256"]:
        raise ValueError(f"expected {weights} with the sha256 in {path.name}, found another file")
    return Vector(str(info["case"]), info, tensors, path.parent)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"expected reference tensors at {path}, found {error}") from error
