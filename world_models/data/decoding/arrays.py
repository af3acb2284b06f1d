"""Safe reading of .npy and .npz files, which checks each header before it allocates memory."""

import json
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.downloads import check_not_lfs_pointer

LARGEST = 4 * 2**30
"""Most bytes to read from one file: 4 GiB."""
BLOCK = 1 << 20
"""Bytes to unpack at a time."""
ENDING = ".npy"

CUT = (
    *(EOFError, SyntaxError, lzma.LZMAError, struct.error, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error),
)
"""Exceptions of damaged files alone."""
DAMAGED = (*CUT, LookupError, MemoryError, OSError, OverflowError, RuntimeError, ValueError)
"""Exceptions of files that are damaged, have a false header, or are too large."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Header:
    """The header of an array in a file.

    Attributes:
        shape: Shape of the array.
        dtype: Type of its values; never Python objects.
        fortran_order: Whether the first index varies fastest on disk.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    def __str__(self) -> str:
        """Return type and shape, for messages."""
        return f"{self.dtype} {self.shape}"

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def part(self, start: int, stop: int | None) -> "Header":
        """Return the header of rows `start` to `stop` as they are read; None for the last row.

        An array of another order on disk is read whole.
        """
        if not self.shape or self.fortran_order:
            return self
        rows = len(range(self.shape[0])[start:stop])
        return Header((rows, *self.shape[1:]), self.dtype, False)


class ArrayFile:
    """The arrays of an open .npz file by name, which are read on demand."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Read the archive's list of members, and nothing else."""
        self._archive = archive
        self._members = {
            member.filename.removesuffix(ENDING): member
            for member in archive.infolist()
            if member.filename.endswith(ENDING)
        }
        self._taken = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self._members)

    def header(self, name: str) -> Header:
        """Return type and shape of an array.

        Raises:
            One of `DAMAGED`: No such array, a damaged one, or one of Python objects.
        """
        with self._open(name) as file:
            return _read_header(file, self._members[name].file_size)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return an array, or its rows from `start` to `stop`; none of them is negative.

        Raises:
            One of `DAMAGED`: As for `header`, or more than `LARGEST` bytes from this file.
        """
        with self._open(name) as file:
            header = _read_header(file, self._members[name].file_size)
            self._taken += header.part(start, stop).nbytes
            _check_size(self._taken)
            return _read_values(file, header, start, stop)

    def read_json(self, name: str, named: str) -> dict[str, Any]:
        """Return a mapping that is stored as JSON text and names the format `named`.

        Raises:
            One of `DAMAGED`: As for `read`, other content, or another format.
        """
        stored = self.read(name)
        if stored.ndim or stored.dtype.kind != "U":
            raise ValueError(f"`{name}` {stored.shape} of {stored.dtype}, not JSON text")
        found = json.loads(str(stored))
        if not isinstance(found, dict) or found.get("format") != named:
            raise ValueError(f"`{name}` that does not name the format {named}")
        return found

    def _open(self, name: str) -> BinaryIO:
        if name not in self._members:
            raise ValueError(f"no {name} among the arrays {sorted(self._members)}")
        return cast(BinaryIO, self._archive.open(self._members[name]))


@contextmanager
def open_arrays(path: Path) -> Iterator[ArrayFile]:
    """Open a .npz file.

    Raises:
        One of `DAMAGED`: Another or a damaged file.
    """
    with zipfile.ZipFile(path) as archive:
        yield ArrayFile(archive)


def array_header(path: Path) -> Header:
    """Return type and shape of the array in a .npy file.

    Raises:
        One of `DAMAGED`: As for `ArrayFile.header`.
    """
    with path.open("rb") as file:
        return _read_header(file, path.stat().st_size)


def read_array(path: Path, start: int = 0, stop: int | None = None) -> NDArray[Any]:
    """Return the array in a .npy file, or its rows from `start` to `stop`; see `ArrayFile.read`.

    Raises:
        One of `DAMAGED`: As for `ArrayFile.read`.
    """
    with path.open("rb") as file:
        header = _read_header(file, path.stat().st_size)
        _check_size(header.part(start, stop).nbytes)
        return _read_values(file, header, start, stop)


@contextmanager
def reading(path: Path, expected: str, advice: str = "") -> Iterator[None]:
    """Turn errors of reading a file into one line that names it.

    Args:
        path: The file.
        expected: The expected content, such as "a recording at start.npz".
        advice: Advice for the end of the message.

    Raises:
        OSError: The file cannot be opened.
        ValueError: A git-LFS pointer, or one of `DAMAGED` in the block.
    """
    check_not_lfs_pointer(path)
    try:
        yield
    except DAMAGED as error:
        found = str(error) or type(error).__name__
        if not advice and isinstance(error, CUT):
            advice = "the file is damaged: copy it again"
        raise ValueError(f"expected {expected}, found {found}{advice and f'; {advice}'}") from error


def as_numbers(name: str, found: NDArray[Any], ndim: int) -> NDArray[np.float32]:
    """Return an array of numbers with `ndim` axes as float32; values beyond float32 become inf.

    Raises:
        ValueError: Text, complex numbers or another number of axes.
    """
    if found.dtype.kind not in "biuf" or found.ndim != ndim:
        axes = ", ".join("TABC"[:ndim]) + "," * (ndim == 1)
        raise ValueError(f"`{name}` {found.shape} of {found.dtype}, not numbers ({axes})")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)


def _read_header(file: BinaryIO, size: int) -> Header:
    """Read the header of an array whose header and values have `size` bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"an array of format {version}, not one of {list(_HEADERS)}")
    shape, fortran_order, dtype = _HEADERS[version](file)
    header = Header(shape, dtype, fortran_order)
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"an array of {dtype}, which cannot be loaded safely")
    there = size - file.tell()
    if min(shape, default=0) < 0 or header.nbytes > there:
        raise ValueError(f"a header of {header}, {header.nbytes:,} bytes, but only {there:,} bytes")
    return header


def _read_values(file: BinaryIO, header: Header, start: int, stop: int | None) -> NDArray[Any]:
    wanted = header.part(start, stop)
    if wanted is not header:
        file.seek(start * header.part(0, 1).nbytes, SEEK_CUR)
    values = np.empty(wanted.nbytes, np.uint8)
    _fill(file, values)
    order: Literal["C", "F"] = "F" if header.fortran_order else "C"
    found = values.view(header.dtype).reshape(wanted.shape, order=order)
    return found[start:stop] if wanted is header and wanted.shape else found


def _fill(file: BinaryIO, out: NDArray[Any]) -> None:
    """Fill a contiguous array with the next bytes of the file, a block at a time."""
    flat, done = out.reshape(-1).view(np.uint8), 0
    while done < len(flat):
        block = file.read(min(BLOCK, len(flat) - done))
        if not block:
            raise EOFError("a file that ends within an array")
        flat[done : done + len(block)] = np.frombuffer(block, np.uint8)
        done += len(block)


def _check_size(nbytes: int) -> None:
    if nbytes > LARGEST:
        raise ValueError(
            f"arrays of {nbytes / 2**30:,.1f} GiB, expected at most {LARGEST / 2**30:g} GiB; cut "
            "it into shorter recordings"
        )
