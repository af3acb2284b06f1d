"""Messages to and from a policy server: msgpack with numpy arrays, without pickle.

The bytes are those of the package `openpi-client`.
Source: openpi-client 0.1.2, `openpi_client.msgpack_numpy`.
"""

import math
import re
from typing import Any

import msgpack
import numpy as np

from v2w_gym.configs.text import brief, printable

MAX_BYTES = 64 * 2**20
"""Largest message; a frame of 4096 x 4096 pixels fits."""
MAX_ITEMS = 100_000
"""Most values in all lists and dicts of one message; an array counts as one. Without the limit,
each byte of a message could become an object of 64 bytes."""

IMAGE_KEY, PROMPT_KEY = "observation/image", "prompt"
"""Default keys of the frame and the instruction in a request."""
RESET_KEY = "__reset__"
"""Key of a new episode's instruction and seed, for servers that support resets."""

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
REFUSED = "VOc"
"""Array kinds that are not allowed: structures, objects and complex numbers."""
DTYPES = re.compile(r"[<>=|]?([biufSU]\d{1,5}|[mM]8(\[\w{1,8}\])?)")
"""Allowed dtypes of arrays in a message."""


def pack(value: object) -> bytes:
    """Return `value` as a message: dicts, lists, text, numbers, numpy arrays and numpy scalars.

    Raises:
        ValueError: An array of objects, structures or complex numbers.
        TypeError: A value of any other type.
    """
    return msgpack.packb(value, default=_pack_numpy)


def unpack(message: bytes | str) -> Any:
    """Return the value of a message; arrays are read-only views of it.

    Raises:
        ValueError: Not a valid message, or one with more than `MAX_ITEMS` values.
    """
    if isinstance(message, str):
        raise ValueError(f"expected a binary message, found text: {brief(message, 200)}")
    items = _Items()
    try:
        return msgpack.unpackb(
            message,
            object_hook=items.take_dict,
            list_hook=items.take_list,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
        )
    except (
        msgpack.UnpackException,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"expected a msgpack message with numpy arrays, found {len(message)} bytes that are "
            f"none: {type(error).__name__}: {printable(str(error))}"
        ) from error


class _Items:
    """Counts the values of a message while it is read, and decodes arrays."""

    def __init__(self) -> None:
        self._count = 0

    def take_list(self, found: list[Any]) -> list[Any]:
        self._add(len(found))
        return found

    def take_dict(self, found: dict[Any, Any]) -> object:
        self._add(len(found))
        return _unpack_numpy(found)

    def _add(self, size: int) -> None:
        self._count += 1 + size
        if self._count > MAX_ITEMS:
            raise ValueError(f"expected at most {MAX_ITEMS} values in one message, found more")


def _pack_numpy(value: object) -> object:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"expected numbers, text or arrays in a message, found {type(value)}")
    dtype = _check_kind(value.dtype).str
    if isinstance(value, np.ndarray):
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": dtype, b"shape": value.shape}
    return {SCALAR: True, b"data": value.item(), b"dtype": dtype}


def _unpack_numpy(found: dict[Any, Any]) -> object:
    if ARRAY in found:
        return _to_array(found[b"data"], _to_dtype(found[b"dtype"]), found[b"shape"])
    if SCALAR in found:
        return _to_scalar(found[b"data"], _to_dtype(found[b"dtype"]))
    return found


def _to_array(data: object, dtype: np.dtype[Any], shape: object) -> object:
    if not isinstance(data, bytes) or not isinstance(shape, list):
        raise ValueError(
            f"expected bytes and a list of sizes, found {brief(data, 50)} and {brief(shape, 50)}"
        )
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"expected a shape of whole sizes of at least 0, found {brief(shape)}")
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(
            f"expected {expected} bytes for {dtype} of shape {brief(shape)}, found {len(data)}"
        )
    return np.ndarray(buffer=data, dtype=dtype, shape=shape)


def _to_scalar(data: object, dtype: np.dtype[Any]) -> object:
    if not isinstance(data, int | float | str | bytes):
        raise ValueError(f"expected one {dtype}, found {brief(data)}")
    with np.errstate(over="ignore"):  # an overflow becomes infinity
        return dtype.type(data)


def _to_dtype(name: object) -> np.dtype[Any]:
    if not isinstance(name, str) or not DTYPES.fullmatch(name):
        raise ValueError(f"expected arrays of numbers or text in a message, found {brief(name)}")
    return np.dtype(name)


def _check_kind(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind in REFUSED:
        raise ValueError(f"expected arrays of numbers or text in a message, found dtype {dtype}")
    return dtype
