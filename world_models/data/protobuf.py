"""Read protocol buffer messages field by field, without their schema."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Message = TypeVar("Message", bytes, memoryview)

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types: what stands behind a field's number. Groups (3, 4) are long out of use."""

_FIXED = {FIXED64: 8, FIXED32: 4}
_LONGEST = 10  # bytes of a 64-bit varint, seven bits each


def fields(message: Message) -> Iterator[tuple[int, int, int | Message]]:
    """Yield number, wire type and value of every field, in the order they were written.

    Numbers are unsigned (see `signed`). Strings, bytes, nested messages and packed lists are parts
    of `message`: copies of bytes, views of a memoryview. Fixed-width values are little-endian
    integers: a float is `struct.unpack("<f", value.to_bytes(4, "little"))`.

    Raises:
        ValueError: Truncated, or not a message.

    Source: Protocol Buffers documentation, "Encoding".
    """
    at, end = 0, len(message)
    while at < end:
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if not number or wire not in (VARINT, BYTES, *_FIXED):
            raise ValueError(
                f"expected a protocol buffer field before byte {at}, found number {number} of wire "
                f"type {wire}; the data is damaged or something else"
            )
        value: int | Message
        if wire == VARINT:
            value, at = varint(message, at)
        elif wire == BYTES:
            size, at = varint(message, at)
            value, at = _part(message, at, size), at + size
        else:
            value = int.from_bytes(_part(message, at, _FIXED[wire]), "little")
            at += _FIXED[wire]
        yield number, wire, value


def varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return the unsigned number that starts at byte `at`, and where the next thing starts.

    Raises:
        ValueError: The message ends within the number, or the number has more than 64 bits.
    """
    value = 0
    for place, byte in enumerate(message[at : at + _LONGEST]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80 and value < 1 << 64:
            return value, at + place + 1
    raise ValueError(f"expected a whole number at byte {at} of {len(message)}, found none")


def varints(packed: bytes | memoryview) -> NDArray[np.int64]:
    """Return the numbers of a packed list of int64.

    Raises:
        ValueError: The list ends within a number.
    """
    data = np.frombuffer(packed, np.uint8)
    if not (data & 0x80).any():  # flags and small numbers: one byte each
        return data.astype(np.int64)
    found, at = [], 0
    while at < len(packed):
        value, at = varint(packed, at)
        found.append(signed(value))
    return np.array(found, np.int64)


def signed(value: int) -> int:
    """Return what an unsigned 64-bit number means where an int32 or int64 was written."""
    return value - (1 << 64) if value >> 63 else value


def _part(message: Message, at: int, size: int) -> Message:
    """Return `size` bytes from `at` on, all of them."""
    if at + size > len(message):
        raise ValueError(
            f"expected {size} bytes at byte {at} of a message, found {len(message) - at}; "
            "it is truncated"
        )
    return message[at : at + size]
