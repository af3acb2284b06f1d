"""How two processes talk over a pipe: JSON and raw arrays, so that nothing read is ever executed.

A message is `MAGIC`, the header's length (4 bytes, little-endian), a JSON header
`{"info": {...}, "arrays": [[name, dtype, shape], ...]}` and the arrays' bytes in that order.
The other interpreter has numpy but not this project: this file imports nothing else.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

PROTOCOL = 1
"""Raised whenever an older worker would misunderstand a newer parent."""

MAGIC = b"v2w\x01"
PREFIX = struct.Struct("<4sI")
MAX_HEADER, MAX_ARRAYS = 2**20, 2**30
"""Bytes; a stream that claims more is not ours."""

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Message:
    """One request or one answer.

    Attributes:
        info: JSON values.
        arrays: Arrays of booleans, integers or floats by name.
    """

    info: Mapping[str, Any]
    arrays: Arrays = field(default_factory=dict)


def write(stream: IO[bytes], message: Message) -> None:
    """Send one message.

    Raises:
        TypeError: An array of other things than booleans, integers or floats.
    """
    arrays = {name: np.asarray(value) for name, value in message.arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"expected numbers in {name!r}, found {array.dtype}")
    listed = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    header = json.dumps({"info": message.info, "arrays": listed}).encode()
    stream.write(PREFIX.pack(MAGIC, len(header)) + header)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def read(stream: IO[bytes]) -> Message:
    """Receive one message; its arrays are read-only.

    Raises:
        EOFError: The stream ended, before the message or within it.
        ValueError: What came is not a message.
    """
    magic, length = PREFIX.unpack(prefix := _exactly(stream, PREFIX.size))
    if magic != MAGIC or length > MAX_HEADER:
        raise ValueError(f"expected a message that begins with {MAGIC!r}, found {prefix!r}")
    header = json.loads(_exactly(stream, length))
    total, arrays = 0, {}
    for name, kind, shape in header["arrays"]:
        dtype = np.dtype(kind)
        size = math.prod(shape) * dtype.itemsize
        total += size
        if total > MAX_ARRAYS:
            raise ValueError(f"expected at most {MAX_ARRAYS} bytes of arrays, found {total}")
        arrays[name] = np.frombuffer(_exactly(stream, size), dtype).reshape(shape)
    return Message(header["info"], arrays)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError(f"expected {size} bytes more, found {len(data)}")
    return data
