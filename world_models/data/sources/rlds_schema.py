"""The features of an episode and the files of a split, as TFDS describes an RLDS folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym.configs.names import hint
from v2w_gym.world_models.data.sources.rlds_ids import list_ids
from v2w_gym.world_models.data.tensorflow import import_tfds, reason

INFO, FEATURES = "dataset_info.json", "features.json"
STEPS = "steps/"
TRAIN = "train"


@dataclass(frozen=True)
class Feature:
    """A feature of every step, or of the whole episode.

    Attributes:
        path: Its name in a record, such as "steps/action/world_vector".
        kind: "tensor", "text" or "image"; anything else cannot be read.
        shape: Shape of one value; None for any size.
        dtype: Type of its values.
        decode: Function from an encoded image to pixels.
    """

    path: str
    kind: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    decode: Any

    @property
    def is_readable(self) -> bool:
        """Whether its values can be read."""
        return self.kind in ("tensor", "text", "image")

    @property
    def is_camera(self) -> bool:
        """Whether it holds RGB frames, (H, W, 3) uint8."""
        return self.kind == "image" and self.shape[2:] == (3,) and self.dtype == np.uint8

    @property
    def storage(self) -> str:
        """The list of a `tf.train.Feature` that holds it; images are stored as files."""
        if self.kind != "tensor":
            return "bytes_list"
        return "float_list" if self.dtype.kind == "f" else "int64_list"

    @property
    def row(self) -> tuple[int, ...]:
        """Shape of one stored value."""
        return tuple(size or 0 for size in self.shape) if self.kind == "tensor" else ()

    @property
    def values_per_row(self) -> int:
        """Number of stored numbers or strings for one value."""
        return max(prod(self.row), 1)


@dataclass(frozen=True)
class Shard:
    """One file of a split.

    Attributes:
        path: The file.
        first: Number of the first record that belongs to the split.
        ids: Names of the records that belong to it.
        is_whole: Whether the split includes the last record of the file.
    """

    path: Path
    first: int
    ids: Sequence[str]
    is_whole: bool

    def part(self, start: int, stop: int) -> "Shard":
        """Return the records from `start` up to `stop`, counted from `first`."""
        ids = self.ids[start:stop]
        return Shard(self.path, self.first + start, ids, self.is_whole and stop >= len(self.ids))


def find_builder_folder(path: Path) -> Path:
    """Return the TFDS builder folder at `path`, or the only one in it.

    Raises:
        FileNotFoundError: None there.
        ValueError: Several versions.
    """
    if (path / INFO).is_file() or (path / FEATURES).is_file():
        return path
    below = list_versions(path)
    if len(below) > 1:
        raise ValueError(
            f"expected one version of a data set in {path}, found {len(below)}; give one of "
            + ", ".join(map(str, below))
        )
    return below[0] if below else path


def list_versions(path: Path) -> list[Path]:
    """Return the TFDS builder folders in a folder."""
    return sorted(found.parent for found in path.glob(f"*/{INFO}"))


def read_info(folder: Path) -> Any:
    """Return the dataset info of TFDS for a builder folder.

    Raises:
        FileNotFoundError: No builder folder.
        ModuleNotFoundError: TFDS is not installed.
        ValueError: Damaged descriptions, or a file format other than TFRecord.
    """
    for name in (INFO, FEATURES):
        _check_builder_folder(folder, name)
    tfds = import_tfds()
    with _described_in(folder):
        info = tfds.builder_from_directory(folder).info
    if info.file_format is not tfds.core.FileFormat.TFRECORD:
        raise ValueError(
            f"expected TFRecord files in {folder}, found {info.file_format.value}; write the "
            "dataset as tfrecord with `tfds convert_format`"
        )
    return info


def default_split(info: Any) -> str:
    """Return "train", or the only split.

    Raises:
        ValueError: Several splits without "train", or none.
    """
    splits = list(info.splits)
    if TRAIN in splits:
        return TRAIN
    if len(splits) == 1:
        return str(splits[0])
    raise ValueError(
        f"expected the name of a split of {info.name} after a colon, found none; choose one of "
        f"{splits}"
    )


def list_shards(folder: Path, info: Any, split: str) -> tuple[Shard, ...]:
    """Return the files of a split, in order.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Unknown split.
    """
    try:
        files = info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"expected a split of {info.name} or a part of one, such as train[:12shard], found "
            f"{split!r}{hint(split, list(info.splits))}; {reason(error)}"
        ) from error
    ids = list_ids(info)
    shards = []
    for file in files:
        path, end = Path(file.filename), file.skip + file.take
        if file.take > 0:
            names = ids[path.name][file.skip : end]
            shards.append(Shard(path, file.skip, names, end == file.examples_in_shard))
    _check_there(folder, info, split, [shard.path for shard in shards])
    return tuple(shards)


def read_features(folder: Path, info: Any) -> tuple[dict[str, Feature], dict[str, Feature]]:
    """Return the features of the steps (named without "steps/") and those of the whole episode.

    Raises:
        ValueError: No episodes, or features that TFDS cannot read.
    """
    found = {feature.path: feature for feature in _find_features(info.features, "")}
    steps = {
        path.removeprefix(STEPS): feature
        for path, feature in found.items()
        if path.startswith(STEPS)
    }
    if not steps:
        raise ValueError(
            f"expected RLDS episodes (a feature named 'steps') in {folder / FEATURES}, found "
            f"{list(found)}"
        )
    return steps, {path: f for path, f in found.items() if not path.startswith(STEPS)}


@contextmanager
def _described_in(folder: Path) -> Iterator[None]:
    """Turn errors of TFDS about the descriptions in a folder into one line."""
    try:
        yield
    except Exception as error:  # TFDS passes on any exception of its parsers
        raise ValueError(
            f"expected a dataset that TFDS describes in {folder / INFO} and {FEATURES}, found "
            f"this: {reason(error)}; copy both again, or write the dataset again with TFDS >= 4.6"
        ) from error


def _check_builder_folder(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"expected a TFDS builder folder ({INFO}, {FEATURES} and TFRecord files) at {folder}, "
            f"found no {name}; give the folder of one version of a dataset"
        )


def _check_there(folder: Path, info: Any, split: str, wanted: Sequence[Path]) -> None:
    """Check that the wanted files exist; if not, advise a part of the split that does."""
    missing = [path.name for path in wanted if not path.is_file()]
    if not missing:
        return
    advice = "copy the missing ones"
    name = split.partition("[")[0]
    there = [Path(path).is_file() for path in info.splits[name].filepaths]
    if any(there) and "+" not in name:
        start = there.index(True)
        end = [*there, False].index(False, start)
        advice += f", or read a part: split={name}[{start}shard:{end}shard]"
    raise FileNotFoundError(
        f"expected {len(wanted)} files of the split {split} in {folder}, found no {missing[0]} "
        f"({len(missing)} are missing); {advice}"
    )


def _find_features(node: Any, path: str) -> Iterator[Feature]:
    """Yield every feature below a node of TFDS's feature tree."""
    features = import_tfds().features
    for name, feature in sorted(node.items()):  # TFDS yields them in a random order
        below = f"{path}{name}"
        if isinstance(feature, features.Sequence) and f"{below}/" == STEPS:
            feature = feature.feature
        if isinstance(feature, features.FeaturesDict):
            yield from _find_features(feature, f"{below}/")
        else:
            yield _to_feature(below, feature)


def _to_feature(path: str, feature: Any) -> Feature:
    kind = _find_kind(feature)
    if not kind:
        return Feature(path, type(feature).__name__, (), np.dtype(object), None)
    dtype = np.dtype(feature.np_dtype)
    return Feature(path, kind, feature.shape, dtype, feature.decode_example)


def _find_kind(feature: Any) -> str:
    """Return "tensor", "text" or "image"; an empty text for any other storage."""
    tfds = import_tfds()
    if isinstance(feature, tfds.features.Image):
        return "image"
    if not isinstance(feature, tfds.features.Tensor):
        return ""
    stored, dtype = feature.get_serialized_info(), np.dtype(feature.np_dtype)
    if stored.shape != feature.shape or None in feature.shape or stored.np_dtype != dtype:
        return ""
    if dtype.kind in "biuf":
        return "tensor"
    return "text" if dtype.kind == "O" and not feature.shape else ""
