"""Constant inputs for policies that need more than a frame and an instruction.

A video world model has neither the robot's joints nor a second camera. Some policies work with
constants in their place, which `inputs` of a policy file declares:

    inputs:
      observation/state: [0, 0.5, 0]           # float32 values; nested lists for more dimensions
      observation/joint_position: {zeros: [7]} # float32 zeros of this shape
      observation/wrist_image: {image: [224, 224]}       # a black image: height, width
      observation/other_image: {image: wrist.png}        # an image file, not resized
      observation/depth: null                  # left out, for a policy that masks what is missing
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Constants: TypeAlias = Mapping[str, NDArray[Any]]
"""Name of an input -> float32 values, or an image (H, W, 3) uint8."""

MOST_VALUES = 2**24
"""Values in one input: more than any camera's image has."""
FORMS = (
    "a number, a list of numbers, {zeros: [sizes]}, {image: [height, width]}, {image: file} or null"
)


def load_constants(inputs: Mapping[str, object]) -> Constants:
    """Return the constants that `inputs` of a policy file declares, one array per name.

    Raises:
        FileNotFoundError: No such image file.
        ValueError: A declaration has none of `FORMS`, or a file is no image.
    """
    given = {name: declared for name, declared in inputs.items() if declared is not None}
    return {name: _to_array(name, declared) for name, declared in given.items()}


def add_constants(fingerprint: str, constants: Constants) -> str:
    """Return the fingerprint of a policy with its constants, which change its actions."""
    if not constants:
        return fingerprint
    digest = hashlib.sha256(fingerprint.encode())
    for name, values in sorted(constants.items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _to_array(name: str, declared: object) -> NDArray[Any]:
    if not isinstance(declared, Mapping):
        return _to_values(name, declared)
    if len(declared) != 1 or set(declared) - set(MADE):
        raise _unknown(name, declared)
    (form, value), *_ = declared.items()
    return MADE[form](name, value)


def _to_values(name: str, declared: object) -> NDArray[Any]:
    try:
        values = np.array(declared)
    except ValueError as error:  # rows of different lengths
        raise _unknown(name, declared) from error
    if values.dtype.kind not in "iuf" or values.size > MOST_VALUES:
        raise _unknown(name, declared)
    with np.errstate(over="ignore"):  # an overflow to infinity is an error below
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        raise _unknown(name, declared)
    return single


def _to_zeros(name: str, sizes: object) -> NDArray[Any]:
    return np.zeros(_to_shape(name, {"zeros": sizes}, sizes), np.float32)


def _to_image(name: str, value: object) -> NDArray[Any]:
    if isinstance(value, str):
        return _read_image(name, Path(value))
    shape = _to_shape(name, {"image": value}, value)
    if len(shape) != 2 or 0 in shape:
        raise _unknown(name, {"image": value})
    return np.zeros((*shape, 3), np.uint8)


MADE: Mapping[str, Callable[[str, object], NDArray[Any]]] = {
    "zeros": _to_zeros,
    "image": _to_image,
}
"""Form of a declaration -> the function that makes the array."""


def _to_shape(name: str, declared: object, value: object) -> tuple[int, ...]:
    sizes = tuple(value) if isinstance(value, list | tuple) else ()
    whole = all(type(size) is int and 0 <= size <= MOST_VALUES for size in sizes)
    if not sizes or not whole or math.prod(sizes) > MOST_VALUES:
        raise _unknown(name, declared)
    return sizes


def _read_image(name: str, path: Path) -> NDArray[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"expected the image of input {name!r} at {path}, found no file")
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"expected an image for input {name!r} in {path}, found {error}"
        ) from error


def _unknown(name: str, declared: object) -> ValueError:
    return ValueError(
        f"expected input {name!r} to be {FORMS}, of finite numbers and at most {MOST_VALUES} "
        f"values, found {declared!r:.200}"
    )
