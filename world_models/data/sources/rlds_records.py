"""Stored RLDS episodes, from the TFRecord files of a TFDS builder folder.

TFDS describes a folder, and TensorFlow reads it. A record holds its bytes, and parses or decodes
features on demand.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.world_models.data.sources.rlds_schema import (
    INFO,
    Feature,
    Shard,
    default_split,
    find_builder_folder,
    list_shards,
    read_features,
    read_info,
)
from v2w_gym.world_models.data.tensorflow import import_tensorflow, reading
from v2w_gym.world_models.downloads import check_not_lfs_pointer

_RECORD_HEADER, _RECORD_FOOTER = 12, 4
"""Bytes of a TFRecord before its data (8 length, 4 checksum) and after it (4 checksum)."""


@dataclass(frozen=True)
class Place:
    """The place of a record.

    Attributes:
        id: Name of the episode.
        path: The file.
        number: Number of the record in it.
        offset: Byte at which its data begins.
        size: Bytes of its data.
    """

    id: str
    path: Path
    number: int
    offset: int
    size: int

    def __str__(self) -> str:
        """Return the record's name for messages."""
        return f"record {self.number} of {self.path}"


@dataclass(frozen=True)
class RldsDataset:
    """The episodes of one split as they are stored, read from disk on demand.

    Attributes:
        name: The dataset's name, such as "fractal20220817_data".
        version: Its version, such as "0.1.0".
        split: The split, or part of one.
        shards: The files, in order.
        features: Features of every step by name, such as "action/world_vector".
        episode_features: Features of a whole episode by name.
    """

    name: str
    version: str
    split: str
    shards: tuple[Shard, ...]
    features: Mapping[str, Feature]
    episode_features: Mapping[str, Feature]

    @property
    def label(self) -> str:
        """The name and version, for messages."""
        return f"{self.name} {self.version}"

    def __len__(self) -> int:
        """Return the number of episodes."""
        return sum(len(shard.ids) for shard in self.shards)

    def __iter__(self) -> Iterator["RldsRecord"]:
        """Yield every episode, in the order of the files."""
        return self.read()

    def read(self, start: int = 0, stop: int | None = None) -> Iterator["RldsRecord"]:
        """Yield the episodes from number `start` up to `stop`; only one at a time is in memory.

        Raises:
            ValueError: A damaged file, or one with a wrong number of records.
        """
        start, stop, _ = slice(start, stop).indices(len(self))
        for shard in self.shards:
            part = shard.part(max(start, 0), max(stop, 0))
            for place, record in _records(part) if part.ids else ():
                yield RldsRecord(record, self.features, self.episode_features, place)
            start, stop = start - len(shard.ids), stop - len(shard.ids)

    def read_at(self, place: Place) -> "RldsRecord":
        """Return an episode that `read` has yielded, and whose checksum it compared."""
        with place.path.open("rb") as file:
            file.seek(place.offset)
            record = file.read(place.size)
        return RldsRecord(record, self.features, self.episode_features, place)


def open_rlds(folder: str | Path, split: str = "") -> RldsDataset:
    """Return the episodes of a split; only the folder's two JSON files are read.

    Args:
        folder: A TFDS builder folder (`dataset_info.json`, `features.json` and TFRecord files), or
            its parent if that has one version.
        split: Name of a split, or a part of it as in TFDS, such as "train[:12shard]"; "" for
            "train", or the only one.

    Raises:
        FileNotFoundError: Not such a folder, or a file of the split is missing.
        ModuleNotFoundError: TFDS is not installed.
        ValueError: Several versions, an unknown split, another file format, or no RLDS episodes.
    """
    folder = find_builder_folder(Path(folder))
    info = read_info(folder)
    steps, whole = read_features(folder, info)
    split = split or default_split(info)
    return RldsDataset(
        info.name, str(info.version), split, list_shards(folder, info, split), steps, whole
    )


class RldsRecord:
    """One stored episode of T steps.

    Args:
        record: A serialised `tf.train.Example`.
        features: Features of every step by name.
        episode_features: Features of the whole episode by name.
        place: Place of the record.
    """

    def __init__(
        self,
        record: bytes,
        features: Mapping[str, Feature],
        episode_features: Mapping[str, Feature],
        place: Place,
    ) -> None:
        self.features = features
        self.episode_features = episode_features
        self.place = place
        self.origin = str(place)
        self._record = record

    @cached_property
    def _length(self) -> int:
        readable = [f for f in self.features.values() if f.is_readable]
        cheapest = min(readable, key=lambda f: (f.values_per_row, f.path))
        return len(self._rows(cheapest))

    def __len__(self) -> int:
        """Return the number of steps (T)."""
        return self._length

    def pictures(self, name: str) -> list[bytes]:
        """Return the stored JPEG or PNG file of every step (T).

        Raises:
            ValueError: Unknown feature, or one that is no picture.
        """
        return list(self._stacked(self._known(self.features, name, "image")))

    def frames(self, name: str, steps: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Decode the camera's frames, (T, H, W, 3) uint8.

        JPEG pixels equal those of TFDS, on which RT-1 was trained. They come from TensorFlow's fast
        integer transform, which differs slightly from an exact one.

        Args:
            name: Name of an image, such as "observation/image".
            steps: Indices of the steps to decode; None for all.

        Raises:
            ValueError: Unknown feature, or a damaged image.
        """
        feature = self._known(self.features, name, "image")
        encoded = self._stacked(feature)
        chosen = range(len(self)) if steps is None else steps
        decoded = [self._decode(feature, encoded[step], step) for step in chosen]
        if len(sizes := {frame.shape[:2] for frame in decoded}) > 1:
            raise ValueError(
                f"expected images of one size in {name} of {self.origin}, found {sorted(sizes)}"
            )
        if decoded:
            return np.stack(decoded)
        return np.zeros((0, *(size or 0 for size in feature.shape)), np.uint8)

    def step(self, name: str) -> NDArray[Any]:
        """Return a tensor feature of every step, (T, ...) of the declared type and shape.

        Raises:
            ValueError: Unknown feature, or a record that contradicts its description.
        """
        feature = self._known(self.features, name, "tensor")
        return self._stacked(feature)

    def text(self, name: str) -> list[str]:
        """Return a text feature of every step (T).

        Raises:
            ValueError: As for `step`, or not UTF-8.
        """
        feature = self._known(self.features, name, "text")
        return [self._to_text(feature, value) for value in self._stacked(feature)]

    def value(self, name: str) -> NDArray[Any] | str:
        """Return a feature of the whole episode: a tensor of its declared type and shape, or text.

        Raises:
            ValueError: As for `step` and `text`.
        """
        feature = lookup(self.episode_features, name, f"episode feature of {self.origin}")
        if feature.kind != "text":
            self._known(self.episode_features, name, "tensor")
        rows = self._rows(feature)
        if len(rows) != 1:
            raise ValueError(f"expected one {feature.path} in {self.origin}, found {len(rows)}")
        return self._to_text(feature, rows[0]) if feature.kind == "text" else np.asarray(rows[0])

    def _known(self, features: Mapping[str, Feature], name: str, kind: str) -> Feature:
        feature = lookup(features, name, f"feature of {self.origin}")
        if feature.kind != kind:
            raise ValueError(f"expected {name} of {self.origin} as {kind}, found {feature.kind}")
        return feature

    def _stacked(self, feature: Feature) -> NDArray[Any]:
        """Return one row for each step."""
        rows = self._rows(feature)
        if len(rows) != len(self):
            raise ValueError(
                f"expected {feature.path} at all {len(self)} steps of {self.origin}, found "
                f"{len(rows)} values"
            )
        return rows

    def _rows(self, feature: Feature) -> NDArray[Any]:
        """Return the stored rows of a feature, of its declared type and shape."""
        dtype = feature.dtype if feature.kind == "tensor" else np.dtype(object)
        stored = self._stored.get(feature.path)
        kind = stored and stored.WhichOneof("kind")
        if kind is None:
            return np.zeros((0, *feature.row), dtype)
        values = getattr(stored, feature.storage).value
        if kind != feature.storage or len(values) % feature.values_per_row:
            raise ValueError(
                f"expected {feature.path} ({feature.dtype}) in {self.origin} as a multiple of "
                f"{feature.values_per_row} values in a {feature.storage}, found "
                f"{len(values)} in a {kind}; copy it again"
            )
        rows = np.empty(len(values), dtype)
        rows[:] = values
        return rows.reshape(-1, *feature.row)

    @cached_property
    def _stored(self) -> Mapping[str, Any]:
        """Path of a feature -> `tf.train.Feature`."""
        with reading(f"an episode (a tf.train.Example) in {self.origin}"):
            return import_tensorflow().train.Example.FromString(self._record).features.feature

    def _to_text(self, feature: Feature, value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"expected UTF-8 in {feature.path} of {self.origin}, found {error}"
            ) from error

    def _decode(self, feature: Feature, encoded: bytes, step: int) -> NDArray[np.uint8]:
        size = "x".join(str(size or "any") for size in feature.shape)
        with reading(f"an image of {size} in {feature.path}, step {step}, {self.origin}"):
            return feature.decode(encoded).numpy()


def _records(shard: Shard) -> Iterator[tuple[Place, Any]]:
    """Yield the records of a shard and their places."""
    check_not_lfs_pointer(shard.path)
    end = shard.first + len(shard.ids)
    # TFRecordDataset gives no offsets, so add up the sizes of all records before.
    number, at = 0, _RECORD_HEADER
    for record in _all_records(shard.path):
        size = len(record)
        if shard.first <= number < end:
            yield Place(shard.ids[number - shard.first], shard.path, number, at, size), record
        number, at = number + 1, at + size + _RECORD_FOOTER + _RECORD_HEADER
        if number > end or (number == end and not shard.is_whole):
            break
    if number < end or (number > end and shard.is_whole):
        raise ValueError(
            f"expected {end} records in {shard.path} as {INFO} says, found "
            f"{number if number < end else 'more'}; copy the file again"
        )


def _all_records(path: Path) -> Iterator[bytes]:
    """Yield every record of a file; TensorFlow checks both checksums of each."""
    records = import_tensorflow().data.TFRecordDataset(str(path)).as_numpy_iterator()
    number = 0
    while True:
        with reading(f"a whole record {number} in {path}"):
            record = next(records, None)
        if record is None:
            return
        yield record
        number += 1
