"""Read the bounds of a policy's actions from `policy_specs.pbtxt`, which TF-Agents writes.

Source: TensorFlow, `struct.proto` and `tensor.proto` in text format.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.policies.tensorflow.bundle import downloaded

SPECS = "policy_specs.pbtxt"
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}]|[^\s{}:"]+')
LISTS = {"float_val": float, "double_val": float, "int_val": int, "int64_val": int}

Message: TypeAlias = "list[tuple[str, str | Message]]"
Bounds: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]


def action_bounds(folder: Path) -> dict[str, Bounds]:
    """Return the lowest and highest values of each action field, in the field's shape.

    Args:
        folder: Of a SavedModel.

    Returns:
        Nothing where there are no specs, or none with bounds.

    Raises:
        ValueError: The specs are not downloaded, or not in protocol buffers' text format.
    """
    path = folder / SPECS
    if not path.is_file():
        return {}
    downloaded(path)
    try:
        tree = _message(iter(TOKEN.findall(path.read_text(encoding="utf-8"))))
        entries = [*_inside(tree, "fields"), *_inside(tree, "values")]  # of dicts, of named tuples
        actions = [entry for entry in entries if ("key", '"action"') in entry]
        specs = [spec for entry in actions for spec in _inside(entry, "bounded_tensor_spec_value")]
        return {_text(spec, "name"): _bounds(spec) for spec in specs}
    except (StopIteration, KeyError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"expected the specs of a policy in {path}, found something else ({error}); copy the "
            "file again, or convert without it and run v2w verify-policy"
        ) from error


def _message(tokens: Iterator[str]) -> Message:
    """Read fields up to the brace that closes the message, or to the end."""
    found: Message = []
    for name in tokens:
        if name == "}":
            break
        value = next(tokens)
        found.append((name, _message(tokens) if value == "{" else value))
    return found


def _inside(message: Message, name: str) -> Iterator[Message]:
    """Yield the messages of one name, however deep they lie."""
    for field, value in message:
        if isinstance(value, list):
            if field == name:
                yield value
            yield from _inside(value, name)


def _bounds(spec: Message) -> Bounds:
    (shape,) = _inside(spec, "shape")
    sizes = [int(_text(dim, "size")) for dim in _inside(shape, "dim")]
    low, high = (next(_inside(spec, bound)) for bound in ("minimum", "maximum"))
    return np.broadcast_to(_numbers(low), sizes), np.broadcast_to(_numbers(high), sizes)


def _numbers(tensor: Message) -> NDArray[np.float64]:
    """Return a tensor's numbers, one for all of its places or one for each."""
    listed = [LISTS[name](str(value)) for name, value in tensor if name in LISTS]
    if listed:
        return np.array(listed, np.float64)
    content = ast.literal_eval(f"b{dict(tensor)['tensor_content']}")
    return np.frombuffer(content, "<f4" if _text(tensor, "dtype") == "DT_FLOAT" else "<i4")


def _text(message: Message, name: str) -> str:
    return str(dict(message)[name]).strip('"')
