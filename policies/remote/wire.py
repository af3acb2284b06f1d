"""What goes over the wire to a policy server: msgpack with numpy arrays, and never pickle.

Byte for byte what the package `openpi-client` writes and reads.
Source: openpi-client 0.1.2, `openpi_client.msgpack_numpy`.
"""

from typing import Any

import msgpack
import numpy as np

MAX_BYTES = 64 * 2**20
"""Largest message; a frame of 4096 x 4096 pixels fits."""

IMAGE_KEY, PROMPT_KEY = "observation/image", "prompt"
"""Names of the frame and the instruction in a request, where nothing else is agreed."""
RESET_KEY = "__reset__"
"""Name of a new episode's instruction and seed in a request to a server that supports it."""

ARRAY, SCALAR = b"__ndarray__", b"__npgeneric__"
REFUSED = "VOc"
"""Kinds of arrays that do not travel: structures, objects and complex numbers."""


def pack(value: object) -> bytes:
    """Return `value` as a message: dicts, lists, text, numbers, numpy arrays and numpy scalars.

    Raises:
        ValueError: An array of objects, structures or complex numbers.
        TypeError: Anything else that has no place in a message.
    """
    return msgpack.packb(value, default=_pack_numpy)


def unpack(message: bytes | str) -> Any:
    """Return what a message holds; arrays are read-only views of it.

    Raises:
        ValueError: Not such a message.
    """
    if isinstance(message, str):
        raise ValueError(f"expected a binary message, found text: {message[:200]!r}")
    try:
        return msgpack.unpackb(message, object_hook=_unpack_numpy)
    except (msgpack.UnpackException, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"expected a msgpack message with numpy arrays, found {len(message)} bytes that are "
            f"none: {type(error).__name__}: {error}"
        ) from error


def _pack_numpy(value: object) -> object:
    if not isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"expected numbers, text or arrays in a message, found {type(value)}")
    dtype = _check_dtype(value.dtype).str
    if isinstance(value, np.ndarray):
        return {ARRAY: True, b"data": value.tobytes(), b"dtype": dtype, b"shape": value.shape}
    return {SCALAR: True, b"data": value.item(), b"dtype": dtype}


def _unpack_numpy(found: dict[Any, Any]) -> object:
    if ARRAY in found:
        dtype, shape = _check_dtype(np.dtype(found[b"dtype"])), found[b"shape"]
        if min(shape, default=0) < 0:  # numpy takes the size of the buffer instead
            raise ValueError(f"expected a shape without negative sizes, found {shape}")
        return np.ndarray(buffer=found[b"data"], dtype=dtype, shape=shape)
    if SCALAR in found:
        return _check_dtype(np.dtype(found[b"dtype"])).type(found[b"data"])
    return found


def _check_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind in REFUSED:
        raise ValueError(f"expected arrays of numbers or text in a message, found dtype {dtype}")
    return dtype
