"""One golden case on disk, and one comparison with it."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from v2w_gym.world_models.files import sha256_of


@dataclass(frozen=True)
class Tolerance:
    """What may differ.

    Attributes:
        share: Accepted difference, as a share of the largest golden value ...
        plus: ... plus this.
        elementwise: Whether each value is held against its own size, not the largest one's.
    """

    share: float
    plus: float = 0.0
    elementwise: bool = False

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.share:g} x {'own size' if self.elementwise else 'max'} + {self.plus:g}"


@dataclass(frozen=True)
class Comparison:
    """One tensor of ours beside the golden one.

    Attributes:
        name: Which tensor.
        ours: What this implementation gives.
        reference: What the reference implementation gave.
        tolerance: What may differ.
    """

    name: str
    ours: Tensor
    reference: Tensor
    tolerance: Tolerance

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest golden value; 0 where none counts."""
        if not self.tolerance.share or not self._largest:
            return 0.0
        return (self._difference.max() / self._largest).nan_to_num(torch.inf).item()

    @property
    def used(self) -> float:
        """How much of what is accepted is used up: 1 is the limit."""
        limit = self.tolerance
        sizes = self.reference.double().abs() if limit.elementwise else self._largest
        accepted = torch.as_tensor(limit.plus + limit.share * sizes).clamp(min=1e-30)
        return (self._difference / accepted).nan_to_num(torch.inf, torch.inf).max().item()

    @property
    def _difference(self) -> Tensor:
        """Absolute differences; infinite for another shape and where anything is not a number."""
        if self.ours.shape != self.reference.shape:
            return torch.tensor(torch.inf)
        if self.ours.numel() == 0:
            return torch.tensor(0.0)
        difference = (self.ours.detach().double() - self.reference.double()).abs()
        return difference.nan_to_num(torch.inf, torch.inf)

    @property
    def _largest(self) -> float:
        return self.reference.double().abs().max().item() if self.reference.numel() else 0.0


@dataclass(frozen=True)
class GoldenCase:
    """Inputs, weights and outputs of one run of the reference implementation.

    Attributes:
        name: What was run; a key of `v2w_gym.evaluation.checks.parity.cases.CASES`.
        info: The case's JSON: config, runs, tolerances.
        tensors: Everything in its `.safetensors`, by full name.
        folder: Where it lies, for cases that share weights.
    """

    name: str
    info: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    folder: Path

    def state(self) -> dict[str, Tensor]:
        """Return the weights under the reference's own names; they may lie in another case.

        Raises:
            ValueError: The case they lie in is missing or damaged.
        """
        source = self.info.get("state_from")
        tensors = _read_tensors(self.folder / source) if source else self.tensors
        state = {k[len("state/") :]: v for k, v in tensors.items() if k.startswith("state/")}
        if not state:
            raise ValueError(f"expected weights (state/...) for case {self.name!r}, found none")
        return state

    def tensor(self, name: str) -> Tensor:
        """Return one tensor.

        Raises:
            ValueError: The case has none of that name.
        """
        if name not in self.tensors:
            raise ValueError(f"expected tensor {name!r} in case {self.name!r}, found none")
        return self.tensors[name]


Check: TypeAlias = Callable[[GoldenCase], Iterator[Comparison]]
"""Runs our implementation on a case and yields every comparison that counts."""


def load_case(path: Path) -> GoldenCase:
    """Read `<case>.json` and the `.safetensors` beside it.

    Raises:
        ValueError: Unreadable, incomplete, or not the tensors that the JSON describes.
    """
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"expected a golden case at {path}, found {error}") from error
    if isinstance(info, dict) and {"seed_base", "names", "shapes"} <= set(info):
        info = {"case": "rt1", **info}  # only this one generates its weights, and it has no name
    if not isinstance(info, dict) or "case" not in info:
        raise ValueError(f"expected a golden case with a 'case' in {path}, found another JSON file")
    weights = path.with_suffix(".safetensors")
    tensors = _read_tensors(weights)
    if "sha256" in info and sha256_of(weights) != info["sha256"]:
        raise ValueError(f"expected {weights} with the sha256 in {path.name}, found another file")
    missing = sorted(set(info.get("tensors", ())) - set(tensors))
    if missing:
        raise ValueError(f"expected the tensors that {path.name} lists, found no {missing[:3]}")
    return GoldenCase(str(info["case"]), info, tensors, path.parent)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"expected golden tensors at {path}, found {error}") from error
