"""Read TFRecord files, and the `tf.train.Example` messages in them, without TensorFlow."""

import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.protobuf import BYTES, FIXED32, fields, signed, varints
from v2w_gym.world_models.downloads import LFS_POINTER

Values = list[memoryview] | NDArray[np.float32] | NDArray[np.int64]
"""What a feature holds: strings, or numbers."""

_HEADER = struct.Struct("<QI")  # length, its checksum
_FOOTER = struct.Struct("<I")  # checksum of the data


class RecordFile:
    """The records of one file, in order or by number; both checksums of a record are checked.

    Args:
        path: The file; it is opened when records are read, and closed afterwards.
    """

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is read yet."""
        self.path = path

    def read(self, start: int = 0) -> Iterator[bytes]:
        """Yield every record from number `start` on.

        Raises:
            ValueError: Truncated, damaged, or no TFRecord file.
        """
        if start:
            self._check_number(start)
        offset = int(self._offsets[start]) if start else 0
        with self.path.open("rb") as file:
            file.seek(offset)
            number = start
            while (length := self._length(file, number)) is not None:
                yield self._data(file, length, number)
                number += 1

    def __len__(self) -> int:
        """Return the number of records; the first call reads all headers."""
        return len(self._offsets)

    def __getitem__(self, number: int) -> bytes:
        """Return one record; the first call reads all headers.

        Raises:
            IndexError: No such record.
            ValueError: As for `read`.
        """
        self._check_number(number)
        return next(self.read(number))

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Where each record starts."""
        offsets: list[int] = []
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            while (length := self._length(file, len(offsets))) is not None:
                offsets.append(file.tell() - _HEADER.size)
                if file.seek(length + _FOOTER.size, 1) > size:
                    raise self._damaged(len(offsets) - 1, "the file ends within the record")
        return np.array(offsets, np.int64)

    def _length(self, file: BinaryIO, number: int) -> int | None:
        """Read a header and return the record's length, or None at the end of the file."""
        header = file.read(_HEADER.size)
        if not header:
            return None
        if number == 0 and LFS_POINTER.startswith(header):
            raise ValueError(
                f"expected TFRecord data in {self.path}, found a git-LFS pointer; fetch the data "
                "itself with `git lfs pull`"
            )
        if len(header) < _HEADER.size:
            raise self._damaged(number, "the file ends within its header")
        length, checksum = _HEADER.unpack(header)
        if masked_crc(header[:8]) != checksum:
            raise self._damaged(number, "the checksum of its length does not match")
        return int(length)

    def _data(self, file: BinaryIO, length: int, number: int) -> bytes:
        data, footer = file.read(length), file.read(_FOOTER.size)
        if len(data) < length or len(footer) < _FOOTER.size:
            raise self._damaged(number, f"the file ends after {len(data)} of {length} bytes")
        if masked_crc(data) != _FOOTER.unpack(footer)[0]:
            raise self._damaged(number, "the checksum of its data does not match")
        return data

    def _damaged(self, number: int, found: str) -> ValueError:
        return ValueError(
            f"expected a whole record {number} in {self.path}, found that {found}; the file is "
            "truncated, damaged or no TFRecord file: copy it again"
        )

    def _check_number(self, number: int) -> None:
        if not 0 <= number < len(self):
            raise IndexError(
                f"expected a record from 0 to {len(self) - 1} of {self.path}, found {number}"
            )


def masked_crc(data: bytes) -> int:
    """Return the checksum that TFRecord stores for `data`.

    Source: tensorflow/core/lib/hash/crc32c.h: CRC-32C, rotated right by 15 bits, plus a constant.
    """
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_example(record: bytes) -> dict[str, memoryview]:
    """Return the features of a serialised `tf.train.Example`, unparsed; see `feature_values`.

    Raises:
        ValueError: The record is something else.
    """
    found: dict[str, memoryview] = {}
    for _, features in _messages(memoryview(record), "an Example"):
        for _, entry in _messages(features, "its features"):
            parts = dict(_messages(entry, "a feature"))
            found[bytes(parts.get(1, b"")).decode()] = parts.get(2, memoryview(b""))
    return found


def feature_values(feature: memoryview) -> Values:
    """Return what one feature of `read_example` holds; nothing at all is an empty list.

    Raises:
        ValueError: Not a feature.

    Source: tensorflow/core/example/feature.proto: 1 holds bytes, 2 floats, 3 integers; numbers are
    packed or not.
    """
    for kind, values in _messages(feature, "a feature's values"):
        if kind == 1:
            return [value for _, value in _messages(values, "strings")]
        if kind in (2, 3):
            parts = [_numbers(kind, wire, value) for _, wire, value in fields(values)]
            return np.concatenate([np.zeros(0, (np.float32, np.int64)[kind - 2]), *parts])
    return []


def _messages(message: memoryview, what: str) -> Iterator[tuple[int, memoryview]]:
    """Yield number and value of every field; all must be strings, bytes or messages."""
    for number, wire, value in fields(message):
        if wire != BYTES or isinstance(value, int):
            raise ValueError(f"expected {what} of a tf.train.Example, found wire type {wire}")
        yield number, value


def _numbers(kind: int, wire: int, value: int | memoryview) -> NDArray[Any]:
    """Return the numbers of one field: a packed list of them, or a single one."""
    if not isinstance(value, int):
        return np.frombuffer(value, "<f4") if kind == 2 else varints(value)
    if kind == 2 and wire == FIXED32:
        return np.array([value], "<u4").view("<f4")
    return np.array([signed(value)], np.int64)
