"""Read the sorted table that TensorFlow keeps as a checkpoint's index.

Source: LevelDB, "Table format".
"""

from collections.abc import Iterator
from typing import TypeAlias

import cramjam

from v2w_gym.world_models.data.protobuf import varint
from v2w_gym.world_models.data.tfrecord import masked_crc

MAGIC = 0xDB4775248B80FB57
FOOTER, TRAILER = 48, 5
STORED, SNAPPY = 0, 1

Handle: TypeAlias = tuple[int, int]
"""Where a block starts, and how long it is without its trailer."""


def read_table(table: bytes) -> dict[bytes, bytes]:
    """Return keys and values in order; every block is checked against its checksum.

    Raises:
        ValueError: Truncated, damaged, or not a table.
    """
    end = len(table) - FOOTER
    found = int.from_bytes(table[-8:], "little")
    if end < 0 or found != MAGIC:
        raise ValueError(
            f"expected a table that ends in the number {MAGIC:#x}, found {found:#x} at the end of "
            f"{len(table)} bytes; it is truncated or something else"
        )
    _, at = _handle(table, end)  # of a block about the table; TensorFlow writes it empty
    index, _ = _handle(table, at)
    entries: dict[bytes, bytes] = {}
    for _, handle in _entries(_block(table, index)):
        entries.update(_entries(_block(table, _handle(handle, 0)[0])))
    return entries


def _handle(data: bytes, at: int) -> tuple[Handle, int]:
    start, at = varint(data, at)
    size, at = varint(data, at)
    return (start, size), at


def _block(table: bytes, handle: Handle) -> bytes:
    """Return a block's content; its trailer is a byte for the compression, and a checksum."""
    start, size = handle
    stored = table[start : start + size + TRAILER]
    if len(stored) < size + TRAILER:
        raise ValueError(
            f"expected a block of {size} bytes at byte {start}, found {len(stored)}: truncated"
        )
    checked, crc = stored[: size + 1], int.from_bytes(stored[size + 1 :], "little")
    if masked_crc(checked) != crc:
        raise ValueError(
            f"expected a block at byte {start} with checksum {crc:#010x}, found "
            f"{masked_crc(checked):#010x}: damaged"
        )
    compression = checked[-1]
    if compression not in (STORED, SNAPPY):
        raise ValueError(f"expected a block that is stored or snappy, found kind {compression}")
    if compression == STORED:
        return checked[:-1]
    try:
        return bytes(cramjam.snappy.decompress_raw(checked[:-1]))
    except cramjam.DecompressionError as error:
        raise ValueError(f"expected a snappy block at byte {start}, found {error}") from error


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield a block's keys and values; each key is written as what differs from the one before.

    Behind the entries lie the places where whole keys start, four bytes each, and their number.
    """
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        fresh, at = varint(block, at)
        size, at = varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + size]
        at += fresh + size
