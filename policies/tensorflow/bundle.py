"""Read the weights of a TensorFlow checkpoint or SavedModel without TensorFlow.

A bundle is `<prefix>.index`, a table of names, shapes, places and checksums, beside the numbers in
`<prefix>.data-00000-of-0000N`.

Source: TensorFlow, `tensor_bundle.proto`, `tensor_bundle.h` and `trackable_object_graph.proto`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.policies.tensorflow.table import read_table
from v2w_gym.world_models.data.protobuf import fields, varint
from v2w_gym.world_models.data.tfrecord import masked_crc
from v2w_gym.world_models.downloads import check_not_lfs_pointer

DTYPES: Mapping[int, str] = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    9: "int64",
    10: "bool",
    19: "float16",
}
"""Number of a type in `types.proto` -> its name; what is not here is refused."""

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor.

    Attributes:
        dtype: Name of its type; of one that cannot be read, its number in `types.proto`.
        shape: Its dimensions.
        shard: In which data file it lies.
        offset: Where it starts there, in bytes.
        size: How many bytes it has.
        crc: Masked CRC-32C of those bytes.
        sliced: Whether it is stored in parts.
    """

    dtype: str = ""
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    sliced: bool = False


class Bundle:
    """The tensors of a bundle by name; each is read when it is asked for."""

    def __init__(self, index: Path, entries: Mapping[str, Entry], shards: list[Path]) -> None:
        """Take what `read_bundle` found."""
        self.index = index
        self._entries = entries
        self._shards = shards

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors, in the order of their bytes."""
        return tuple(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's dimensions."""
        return self._entries[name].shape

    def dtype(self, name: str) -> str:
        """Return the name of a tensor's type."""
        return self._entries[name].dtype

    def crc(self, name: str) -> int:
        """Return a tensor's checksum as it is stored."""
        return self._entries[name].crc

    def tensor(self, name: str) -> NDArray[np.generic]:
        """Read a tensor and hold it against its checksum.

        Raises:
            ValueError: Damaged, stored in parts, or of a type without numbers.
        """
        entry = self._entries[name]
        if entry.sliced or entry.dtype not in DTYPES.values() or entry.dtype == "string":
            found = "parts" if entry.sliced else f"type {entry.dtype}"
            raise ValueError(
                f"expected numbers in one piece at {name} in {self.index}, found {found}; save the "
                "model again without partitioned variables, in float32"
            )
        dtype = np.dtype(entry.dtype).newbyteorder("<")
        if prod(entry.shape) * dtype.itemsize != entry.size:
            raise ValueError(
                f"expected {entry.dtype} {entry.shape} at {name} in {self.index}, found "
                f"{entry.size} bytes; the index is damaged"
            )
        data = self._read(entry)
        self._check(name, masked_crc(data))
        return np.frombuffer(data, dtype).reshape(entry.shape).copy()

    def variable_names(self) -> dict[str, str]:
        """Return what the program called its variables, by their names in this bundle.

        Object-based checkpoints, so all SavedModels of TensorFlow 2, keep these names.

        Raises:
            ValueError: The record of the names is damaged.
        """
        if OBJECT_GRAPH not in self._entries:
            return {}
        nodes = _parts(self._string(OBJECT_GRAPH), 1)
        attributes = [attribute for node in nodes for attribute in _parts(node, 2)]
        return {_text(attribute, 3): _text(attribute, 2) for attribute in attributes}

    def _string(self, name: str) -> bytes:
        """Read a tensor of one string: its length, a checksum of the length, its bytes."""
        entry = self._entries[name]
        data = self._read(entry)
        size, at = varint(data, 0)
        length = size.to_bytes(4 if size < 1 << 32 else 8, "little")
        self._check(name, masked_crc(length + data[at:]))
        return data[at + 4 :]

    def _read(self, entry: Entry) -> bytes:
        with self._shards[entry.shard].open("rb") as file:
            file.seek(entry.offset)
            return file.read(entry.size)

    def _check(self, name: str, crc: int) -> None:
        if crc != self.crc(name):
            raise ValueError(
                f"expected {name} with checksum {self.crc(name):#010x} beside {self.index}, found "
                f"{crc:#010x}; the data is damaged: copy it again"
            )


def read_bundle(path: Path) -> Bundle:
    """Open a bundle; the numbers stay in the file until they are asked for.

    Args:
        path: A SavedModel, its folder `variables`, or the prefix of a checkpoint's files.

    Raises:
        FileNotFoundError: No index there, or a data file is missing.
        ValueError: Truncated, damaged, big-endian, or not downloaded.
    """
    index = find_index(path)
    table = downloaded(index).read_bytes()
    try:
        messages = read_table(table)
        header = _numbers(messages.pop(b"", b""))
        entries = {_name(key): _entry(message) for key, message in messages.items()}
    except ValueError as error:
        raise ValueError(
            f"expected the index of a checkpoint in {index}, found this: {error}; copy it again"
        ) from error
    if header.get(2):
        raise ValueError(
            f"expected little-endian numbers beside {index}, found big-endian ones; save the model "
            "again on an ordinary machine"
        )
    count = header.get(1, 1)
    prefix = index.with_suffix("")
    shards = [prefix.with_name(f"{prefix.name}.data-{i:05}-of-{count:05}") for i in range(count)]
    _check_shards(shards, entries)
    return Bundle(index, entries, shards)


def find_index(path: Path) -> Path:
    """Return the index file of a SavedModel, of its folder `variables`, or of a prefix.

    Raises:
        FileNotFoundError: There is none.
    """
    places = (
        path / "variables" / "variables.index",
        path / "variables.index",
        path.with_name(f"{path.name}.index"),
    )
    for index in places:
        if index.is_file():
            return index
    raise FileNotFoundError(
        f"expected variables/variables.index in the SavedModel folder {path}, found none; name the "
        "folder that holds saved_model.pb and variables/"
    )


def downloaded(path: Path) -> Path:
    """Return `path` if it is the file itself, not what git-LFS keeps in its place.

    Raises:
        ValueError: A git-LFS pointer.
    """
    check_not_lfs_pointer(path)
    return path


def _check_shards(shards: list[Path], entries: Mapping[str, Entry]) -> None:
    """Refuse data files that are missing, not downloaded, or shorter than the index says."""
    for number, path in enumerate(shards):
        if not path.is_file():
            raise FileNotFoundError(
                f"expected {len(shards)} data files beside the index, found no {path.name} in "
                f"{path.parent}; copy it from where the index comes from"
            )
        ends = [e.offset + e.size for e in entries.values() if e.shard == number]
        needed, found = max(ends, default=0), downloaded(path).stat().st_size
        if found < needed:
            raise ValueError(
                f"expected at least {needed} bytes in {path}, found {found}; it is truncated: copy "
                "it again"
            )


def _entry(message: bytes) -> Entry:
    """Read a BundleEntryProto, in which zeros are left out."""
    found = _numbers(message)
    dimensions = [dim for shape in _parts(message, 2) for dim in _parts(shape, 2)]
    return Entry(
        dtype=DTYPES.get(found.get(1, 0), str(found.get(1, 0))),
        shape=tuple(_numbers(dim).get(1, 0) for dim in dimensions),
        shard=found.get(3, 0),
        offset=found.get(4, 0),
        size=found.get(5, 0),
        crc=found.get(6, 0),
        sliced=bool(_parts(message, 7)),
    )


def _numbers(message: bytes) -> dict[int, int]:
    """Return a message's numbers by the numbers of their fields."""
    return {field: value for field, _, value in fields(message) if isinstance(value, int)}


def _parts(message: bytes, number: int) -> list[bytes]:
    """Return the strings or nested messages of one field."""
    return [v for field, _, v in fields(message) if field == number and isinstance(v, bytes)]


def _text(message: bytes, number: int) -> str:
    return _name(b"".join(_parts(message, number)))


def _name(text: bytes) -> str:
    """Return a name; those of the parts of a tensor are not text."""
    return text.decode(errors="backslashreplace")
