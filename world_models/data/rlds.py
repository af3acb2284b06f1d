"""Read robot episodes in the RLDS format (a TFDS builder folder of TFRecords), without TensorFlow.

Nothing is parsed or decoded before it is asked for: an episode holds its record's bytes.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.configs.names import lookup
from v2w_gym.world_models.data.rlds_schema import (
    INFO,
    Feature,
    Shard,
    list_shards,
    read_features,
    read_json,
)
from v2w_gym.world_models.data.tfrecord import Values, feature_values, read_example

_NO_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for damaged images."""


@dataclass(frozen=True)
class RldsDataset:
    """The episodes of one split, read from disk as they are asked for.

    Attributes:
        name: The dataset's name and version, such as "fractal20220817_data 0.1.0".
        split: Which split, or part of it.
        shards: The files, in order.
        features: What every step has, by name: "action/world_vector".
        episode_features: What an episode has once, by name.
    """

    name: str
    split: str
    shards: tuple[Shard, ...]
    features: Mapping[str, Feature]
    episode_features: Mapping[str, Feature]

    def __len__(self) -> int:
        """Return the number of episodes."""
        return sum(shard.records for shard in self.shards)

    def __iter__(self) -> Iterator["RldsEpisode"]:
        """Yield every episode, in the order of the files."""
        return self.read()

    def read(self, start: int = 0) -> Iterator["RldsEpisode"]:
        """Yield every episode from number `start` on; one at a time is in memory.

        Raises:
            ValueError: A file that is damaged, or has more or fewer records than it should.
        """
        for shard in self.shards:
            if start < shard.records:
                yield from self._episodes(shard, start)
            start = max(start - shard.records, 0)

    def __getitem__(self, number: int) -> "RldsEpisode":
        """Return one episode; the first one of a file reads the headers of all its records.

        Raises:
            IndexError: No such episode.
            ValueError: As for `read`.
        """
        if not 0 <= number < len(self):
            raise IndexError(
                f"expected an episode from 0 to {len(self) - 1} of {self.name} {self.split}, "
                f"found {number}"
            )
        for shard in self.shards:
            if number < shard.records:
                _check_count(shard, len(shard.file))
                return self._episode(shard, number, shard.file[number])
            number -= shard.records
        raise AssertionError("the shards hold as many records as there are episodes")

    def _episodes(self, shard: Shard, start: int) -> Iterator["RldsEpisode"]:
        found = start
        for found, record in enumerate(shard.file.read(start), start + 1):
            if found > shard.records:
                break
            yield self._episode(shard, found - 1, record)
        _check_count(shard, found)

    def _episode(self, shard: Shard, number: int, record: bytes) -> "RldsEpisode":
        origin = f"record {number} of {shard.file.path}"
        return RldsEpisode(record, self.features, self.episode_features, origin)


def open_rlds(folder: str | Path, split: str = "train") -> RldsDataset:
    """Return the episodes of a split; only the folder's two JSON files are read.

    Args:
        folder: A TFDS builder folder: `dataset_info.json`, `features.json` and TFRecord files.
        split: Name of a split, or some of its files, such as "train[:12shard]".

    Raises:
        FileNotFoundError: Not such a folder, or a file of the split is missing.
        ValueError: Unknown split, another file format, or no RLDS episodes.
    """
    folder = Path(folder)
    info = read_json(folder, INFO)
    steps, whole = read_features(folder)
    try:
        name = f"{info['name']} {info['version']}"
        shards = list_shards(folder, info, split)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"expected TFDS dataset info in {folder / INFO}, found no {error}"
        ) from error
    return RldsDataset(name, split, shards, steps, whole)


class RldsEpisode:
    """One recorded episode of T steps.

    Args:
        record: A serialised `tf.train.Example`.
        features: What every step has, by name.
        episode_features: What the episode has once, by name.
        origin: Which record of which file this is, for messages.
    """

    def __init__(
        self,
        record: bytes,
        features: Mapping[str, Feature],
        episode_features: Mapping[str, Feature],
        origin: str,
    ) -> None:
        """Keep the record; nothing is parsed yet."""
        self.features = features
        self.episode_features = episode_features
        self.origin = origin
        self._record = record

    @cached_property
    def _length(self) -> int:
        shortest = min(
            (f for f in self.features.values() if f.kind in ("tensor", "text", "image")),
            key=lambda feature: (feature.items, feature.path),
        )
        return len(self._values(shortest)) // shortest.items

    def __len__(self) -> int:
        """Return the number of steps (T)."""
        return self._length

    def frames(self, key: str = "image", steps: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Decode the camera's frames, (T, H, W, 3) uint8.

        JPEG pixels are those of TensorFlow's `dct_method="INTEGER_ACCURATE"`; TFDS itself decodes
        with the faster, coarser transform: 2 of 255 away on average in Bridge's 64x64 frames.

        Args:
            key: Name of an image, with or without "observation/".
            steps: Which steps; only these are decoded. None for all.

        Raises:
            ValueError: Unknown feature, or a damaged image.
        """
        name = key if key in self.features else f"observation/{key}"
        feature = self._known(self.features, name, "image")
        if feature.dtype != "uint8" or len(feature.shape) != 3 or feature.shape[2] != 3:
            raise ValueError(
                f"expected uint8 images (H, W, 3) in {name}, found {feature.dtype} {feature.shape}"
            )
        encoded = self._listed(feature, len(self))
        chosen = range(len(self)) if steps is None else steps
        decoded = [self._decode(feature, encoded[step], step) for step in chosen]
        if len(sizes := {frame.shape[:2] for frame in decoded}) > 1:
            raise ValueError(
                f"expected images of one size in {name} of {self.origin}, found {sorted(sizes)}"
            )
        if decoded:
            return np.stack(decoded)
        return np.zeros((0, *(max(size, 0) for size in feature.shape)), np.uint8)

    def step(self, name: str) -> NDArray[Any]:
        """Return a tensor of every step, (T, ...) of the declared type and shape.

        Raises:
            ValueError: Unknown feature, or a record that does not fit its description.
        """
        return self._tensor(self._known(self.features, name, "tensor"), len(self))

    def text(self, name: str) -> list[str]:
        """Return a string of every step (T).

        Raises:
            ValueError: As for `step`, or not UTF-8.
        """
        return self._texts(self._known(self.features, name, "text"), len(self))

    def value(self, name: str) -> NDArray[Any] | str:
        """Return what the episode has once: a tensor of the declared type and shape, or a string.

        Raises:
            ValueError: As for `step` and `text`.
        """
        feature = lookup(self.episode_features, name, f"episode feature of {self.origin}")
        if feature.kind == "text":
            return self._texts(feature, 1)[0]
        return self._tensor(self._known(self.episode_features, name, "tensor"), 1)[0]

    @cached_property
    def _example(self) -> dict[str, memoryview]:
        try:
            return read_example(self._record)
        except ValueError as error:
            raise ValueError(f"expected an episode in {self.origin}, found {error}") from error

    def _known(self, features: Mapping[str, Feature], name: str, kind: str) -> Feature:
        feature = lookup(features, name, f"feature of {self.origin}")
        if feature.kind != kind:
            raise ValueError(f"expected {name} of {self.origin} as {kind}, found {feature.kind}")
        return feature

    def _values(self, feature: Feature) -> Values:
        if feature.path not in self._example:
            raise ValueError(f"expected {feature.path} in {self.origin}, found none")
        try:
            return feature_values(self._example[feature.path])
        except ValueError as error:
            raise ValueError(
                f"expected values of {feature.path} in {self.origin}, found {error}"
            ) from error

    def _listed(self, feature: Feature, count: int) -> list[memoryview]:
        """Return the strings or images of a feature."""
        values = self._values(feature)
        if not isinstance(values, list):
            raise ValueError(f"expected strings in {feature.path} of {self.origin}, found numbers")
        self._check_length(feature, len(values), count)
        return values

    def _tensor(self, feature: Feature, count: int) -> NDArray[Any]:
        values, dtype = self._values(feature), np.dtype(feature.dtype)
        self._check_length(feature, len(values), count)
        if len(values) == 0:
            return np.zeros((count, *feature.shape), dtype)
        if isinstance(values, list) or (values.dtype.kind == "f") != (dtype.kind == "f"):
            found = "strings" if isinstance(values, list) else values.dtype
            raise ValueError(
                f"expected {feature.dtype} in {feature.path} of {self.origin}, found {found}"
            )
        return values.astype(dtype).reshape(count, *feature.shape)

    def _texts(self, feature: Feature, count: int) -> list[str]:
        try:
            return [bytes(value).decode() for value in self._listed(feature, count)]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"expected UTF-8 in {feature.path} of {self.origin}, found {error}"
            ) from error

    def _check_length(self, feature: Feature, found: int, count: int) -> None:
        if found != count * feature.items:
            raise ValueError(
                f"expected {count} x {feature.items} values in {feature.path} of {self.origin}, "
                f"found {found}"
            )

    def _decode(self, feature: Feature, encoded: memoryview, step: int) -> NDArray[np.uint8]:
        where = f"{feature.path}, step {step}, {self.origin}"
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                pixels = np.asarray(image.convert("RGB"))
        except _NO_IMAGE as error:
            raise ValueError(f"expected an image in {where}, found {error}") from error
        wanted = feature.shape
        if any(size not in (-1, found) for size, found in zip(wanted, pixels.shape, strict=True)):
            raise ValueError(f"expected an image {wanted} in {where}, found {pixels.shape}")
        return pixels


def _check_count(shard: Shard, found: int) -> None:
    if found != shard.records:
        raise ValueError(
            f"expected {shard.records} records in {shard.file.path} as {INFO} says, found "
            f"{found if found < shard.records else 'more'}; copy the file again"
        )
