"""Read the bounds of a policy's actions from TF-Agents' `policy_specs.pbtxt`.

Source: TensorFlow, `struct.proto`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.tensorflow import import_tensorflow, reason
from v2w_gym.world_models.downloads import check_not_lfs_pointer

SPECS = "policy_specs.pbtxt"

Bounds: TypeAlias = tuple[NDArray[np.generic], NDArray[np.generic]]


def action_bounds(folder: Path) -> dict[str, Bounds]:
    """Return the lowest and highest values of each action field, in the field's shape.

    Args:
        folder: Folder of a SavedModel.

    Returns:
        Action field -> lowest and highest values; empty without specs or bounds.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
        ValueError: The specs are not downloaded, or not in protocol buffers' text format.
    """
    path = folder / SPECS
    if not path.is_file():
        return {}
    check_not_lfs_pointer(path)
    import_tensorflow()
    from google.protobuf import text_format
    from tensorflow.core.protobuf.struct_pb2 import StructuredValue

    try:
        specs = text_format.Parse(path.read_text(encoding="utf-8"), StructuredValue())
        bounded = [
            value.bounded_tensor_spec_value
            for key, action in _below(specs)
            if key == "action"
            for _, value in _below(action)
            if value.HasField("bounded_tensor_spec_value")
        ]
        return {spec.name: _bounds(spec) for spec in bounded}
    except (text_format.ParseError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected the specs of a policy in {path}, found something else ({reason(error)}); "
            "copy the file again, or convert without it and run v2w verify-policy"
        ) from error


def _below(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of every entry of a StructuredValue, recursively."""
    kind = value.WhichOneof("kind")
    inside: list[tuple[str, Any]] = []
    if kind == "dict_value":
        inside = sorted(value.dict_value.fields.items(), key=lambda field: field[0])
    elif kind == "named_tuple_value":
        inside = [(pair.key, pair.value) for pair in value.named_tuple_value.values]
    elif kind in ("list_value", "tuple_value"):
        inside = [("", entry) for entry in getattr(value, kind).values]
    for name, entry in inside:
        yield name, entry
        yield from _below(entry)


def _bounds(spec: Any) -> Bounds:
    make_ndarray = import_tensorflow().make_ndarray
    shape = [dim.size for dim in spec.shape.dim]
    low, high = (make_ndarray(bound) for bound in (spec.minimum, spec.maximum))
    return np.broadcast_to(low, shape), np.broadcast_to(high, shape)
