"""Read a reference test vector: inputs, weights and outputs of one run of the reference code."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from v2w_gym.world_models.files import sha256_of
from v2w_gym.world_models.weight_files import read_json, read_safetensors


@dataclass(frozen=True)
class Vector:
    """One run of the reference code."""

    kind: str  # what ran
    info: Mapping[str, Any]  # the JSON beside the tensors
    tensors: Mapping[str, Tensor]  # in/... out/... rng/... (random draws) state/... (weights)
    folder: Path  # some vectors share the weights of another one there

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise ValueError(f"expected tensor {name!r} in vector {self.kind!r}, found none")
        return self.tensors[name]

    def frames(self, name: str) -> Tensor:
        """Return a tensor (B, T, C, h, w), which the file stores as (B, C, T, h, w)."""
        return self[name].transpose(1, 2)

    def with_inputs(self, **inputs: Tensor) -> "Vector":
        """Return this vector with other inputs, by name without `in/`."""
        named = {f"in/{name}": tensor for name, tensor in inputs.items()}
        return replace(self, tensors={**self.tensors, **named})

    @property
    def outputs(self) -> dict[str, Tensor]:
        """Every output, by name without `out/`."""
        return _below("out/", self.tensors)

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """Return the weights by the reference's names; `prefix` is added where it is left out."""
        source = self.info.get("state_from")
        found = _below("state/", read_safetensors(self.folder / source) if source else self.tensors)
        if not found:
            raise ValueError(f"expected weights (state/...) in vector {self.kind!r}, found none")
        return {prefix + name.removeprefix(prefix): value for name, value in found.items()}


def load_vector(path: Path) -> Vector:
    """Read `<vector>.json` and the `.safetensors` beside it.

    Raises:
        ValueError: Unreadable, incomplete, or not the tensors that the JSON describes.
    """
    info = read_json(path)
    if isinstance(info, dict) and {"seed_base", "names", "shapes"} <= set(info):
        info = {"case": "rt1", **info}  # the one kind that generates its weights has no name
    if not isinstance(info, dict) or "case" not in info:
        raise ValueError(f"expected a reference test vector at {path}, found no JSON with a 'case'")
    weights = path.with_suffix(".safetensors")
    tensors = read_safetensors(weights)
    if "sha256" in info and sha256_of(weights) != info["sha256"]:
        raise ValueError(f"expected {weights} with the sha256 in {path.name}, found another file")
    return Vector(str(info["case"]), info, tensors, path.parent)


def _below(place: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(place): value for n, value in tensors.items() if n.startswith(place)}
