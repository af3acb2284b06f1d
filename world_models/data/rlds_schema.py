"""What a TFDS builder folder says of itself: the features of a record, and the files of a split."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from v2w_gym.configs.names import lookup
from v2w_gym.world_models.data.tfrecord import RecordFile

INFO, FEATURES = "dataset_info.json", "features.json"
STEPS = "steps"

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[((?P<start>-?\d+)shard)?:((?P<end>-?\d+)shard)?\])?")


@dataclass(frozen=True)
class Feature:
    """One named value of every step, or of the whole episode.

    Attributes:
        path: Its name in a record, such as "steps/action/world_vector".
        kind: "tensor", "text" or "image"; anything else cannot be read.
        dtype: Type of a tensor's or an image's values.
        shape: Shape of one value; -1 where any size will do.
    """

    path: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()

    @cached_property
    def items(self) -> int:
        """Entries of the record's list that one value takes."""
        return math.prod(self.shape) if self.kind == "tensor" else 1


@dataclass(frozen=True)
class Shard:
    """One file of a split.

    Attributes:
        file: Its records.
        records: How many there must be.
    """

    file: RecordFile
    records: int


def read_json(folder: Path, name: str) -> Any:
    """Return what `folder/name` holds.

    Raises:
        FileNotFoundError: The folder is not a TFDS builder folder.
        ValueError: The file is not JSON.
    """
    path = folder / name
    if not path.is_file():
        below = ", ".join(str(found.parent) for found in sorted(folder.glob(f"*/{name}")))
        raise FileNotFoundError(
            f"expected a TFDS builder folder ({INFO}, {FEATURES} and TFRecord files) at {folder}, "
            f"found no {name}; "
            + (f"did you mean {below}?" if below else "give the folder of one version of a dataset")
        )
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"expected JSON in {path}, found {error}; copy it again") from error


def read_features(folder: Path) -> tuple[dict[str, Feature], dict[str, Feature]]:
    """Return the features of the steps (named without "steps/") and those of the whole episode.

    Raises:
        FileNotFoundError: No `features.json`.
        ValueError: It does not describe episodes.
    """
    try:
        found = list(_features(read_json(folder, FEATURES), ()))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"expected TFDS features in {folder / FEATURES}, found {error!r} missing or of another "
            "form; datasets written by TFDS before 4.6 must be written again"
        ) from error
    steps = {f.path.removeprefix(f"{STEPS}/"): f for f in found if f.path.startswith(f"{STEPS}/")}
    if not steps:
        raise ValueError(
            f"expected RLDS episodes (a feature named {STEPS!r}) in {folder / FEATURES}, found "
            f"{[feature.path for feature in found]}"
        )
    return steps, {f.path: f for f in found if f not in steps.values()}


def list_shards(folder: Path, info: Mapping[str, Any], split: str) -> tuple[Shard, ...]:
    """Return the files of a split, in order.

    Args:
        folder: Where the files are.
        info: What `dataset_info.json` holds.
        split: Name of a split, or some of its shards, such as "train[:12shard]" or
            "train[-8shard:]".

    Raises:
        ValueError: Unknown split, or files of another format.
        FileNotFoundError: A file that is missing.

    Source: TFDS documentation, "Splits and slicing".
    """
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise ValueError(
            f"expected a split such as train or train[:12shard], found {split!r}; parts are "
            "counted in shards"
        )
    if (found := info.get("fileFormat", "tfrecord")) != "tfrecord":
        raise ValueError(
            f"expected TFRecord files in {folder}, found {found}; write the dataset as tfrecord "
            "with `tfds convert_format`"
        )
    described = {part["name"]: part for part in info["splits"]}
    part = lookup(described, match["name"], f"split of {info['name']}")
    lengths = [int(length) for length in part.get("shardLengths", [])]
    template = part.get("filepathTemplate") or _TEMPLATE
    names = {"DATASET": info["name"], "SPLIT": match["name"], "FILEFORMAT": "tfrecord"}
    paths = [
        folder / template.format(SHARD_X_OF_Y=f"{n:05d}-of-{len(lengths):05d}", **names)
        for n in range(len(lengths))
    ]
    wanted = slice(*(int(match[end]) if match[end] else None for end in ("start", "end")))
    _check_there(match["name"], paths, wanted)
    return tuple(
        Shard(RecordFile(path), length)
        for path, length in zip(paths[wanted], lengths[wanted], strict=True)
    )


def _features(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Feature]:
    """Yield every feature below a node of `features.json`."""
    if "featuresDict" in node:
        for name, child in node["featuresDict"]["features"].items():
            yield from _features(child, (*path, name))
    elif "sequence" in node and path == (STEPS,):
        yield from _features(node["sequence"]["feature"], path)
    else:
        yield _leaf(node, "/".join(path))


def _leaf(node: Mapping[str, Any], path: str) -> Feature:
    unknown = Feature(path, node["pythonClassName"].rpartition(".")[2])
    if "text" in node:
        return Feature(path, "text")
    if "classLabel" in node:
        return Feature(path, "tensor", "int64")
    kind = "image" if "image" in node else "tensor"
    if kind not in node:
        return unknown
    details = node[kind]
    shape = tuple(int(size) for size in details["shape"].get("dimensions", ()))
    dtype = details["dtype"]
    if dtype == "string" and not shape:
        return Feature(path, "text")
    readable = kind == "image" or (details.get("encoding", "none") == "none" and -1 not in shape)
    return Feature(path, kind, dtype, shape) if readable and _is_dtype(dtype) else unknown


def _is_dtype(name: str) -> bool:
    try:
        return np.dtype(name).kind in "biuf"
    except TypeError:
        return False


def _check_there(split: str, paths: Sequence[Path], wanted: slice) -> None:
    """Check that the wanted files are there; else say which part of the split is."""
    there = [path.is_file() for path in paths]
    missing = [
        path.name for path, found in zip(paths[wanted], there[wanted], strict=True) if not found
    ]
    if not missing:
        return
    advice = "copy the missing ones"
    if any(there):
        start = there.index(True)
        end = [*there, False].index(False, start)
        advice += f", or read a part: split={split}[{start}shard:{end}shard]"
    raise FileNotFoundError(
        f"expected {len(paths[wanted])} files of the split {split} in {paths[0].parent}, found no "
        f"{missing[0]} ({len(missing)} are missing); {advice}"
    )
