"""What a LeRobot data set says of itself: its features, tasks, splits, and where episodes lie."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.rules import Rate
from v2w_gym.configs.text import brief
from v2w_gym.configs.values import to_value
from v2w_gym.world_models.data.parquet import ParquetRows, open_parquet
from v2w_gym.world_models.downloads import check_not_lfs_pointer

INFO = Path("meta/info.json")
VERSIONS = ("v2.0", "v2.1", "v3.0")
PICTURES = ("image", "video")
"""Values of a feature's `dtype` that stand for camera frames."""

_UNNAMED = "__index_level_0__"
"""The column of `tasks.parquet` with the instructions, as LeRobot before 0.5 names it."""
_SPLIT = re.compile(r"(?P<name>[^\[\]]*)(\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\])?")
_RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True)
class Info:
    """The contents of `meta/info.json`.

    Attributes:
        folder: Folder of the data set.
        version: One of `VERSIONS`.
        rate: Frames per second.
        features: Description of each feature by name.
        splits: Name of a split -> its first episode and the one after its last.
        robot_type: LeRobot's own word for the robot.
        chunks_size: Episodes or files in one folder.
        data_path: Path of a Parquet file, with fields for `str.format`.
        video_path: Path of a video, in the same way.
    """

    folder: Path
    version: str
    rate: float
    features: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, str]
    robot_type: str
    chunks_size: int
    data_path: str
    video_path: str

    @property
    def cameras(self) -> dict[str, str]:
        """Short name of each camera -> its feature; depth maps are left out."""
        found = [
            name
            for name, feature in self.features.items()
            if feature.get("dtype") in PICTURES and not _is_depth(feature)
        ]
        return {name.removeprefix("observation.").removeprefix("images."): name for name in found}


@dataclass(frozen=True)
class Index:
    """Where E episodes lie; a few numbers for each.

    Attributes:
        numbers: (E,) LeRobot's `episode_index`, increasing.
        lengths: (E,) frames.
        data: (E, 2) folder ("chunk") and file of the rows.
        rows: (E,) first row in that file.
        videos: (E, 2) folder and file of the frames.
        times: (E, 2) seconds in that file at which the episode begins and ends; NaN for the end of
            a video that holds one episode.
    """

    numbers: NDArray[np.int64]
    lengths: NDArray[np.int64]
    data: NDArray[np.int64]
    rows: NDArray[np.int64]
    videos: NDArray[np.int64]
    times: NDArray[np.float64]

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.numbers)

    def select(self, places: slice | NDArray[np.intp]) -> "Index":
        """Return the index of some episodes."""
        return Index(**{part.name: getattr(self, part.name)[places] for part in fields(self)})


def read_info(folder: Path) -> Info:
    """Read `meta/info.json`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another version, or a damaged file.
    """
    path = folder / INFO
    found = _read_json(path)
    version = str(found.get("codebase_version"))
    if version not in VERSIONS:
        raise ValueError(
            f"expected a LeRobot data set of version {', '.join(VERSIONS)} in {path}, found "
            f"{version!r}; convert it with LeRobot's own scripts"
        )
    try:
        return Info(
            folder,
            version,
            to_value(Rate, found["fps"], "fps"),
            {str(name): dict(feature) for name, feature in found["features"].items()},
            {str(name): str(part) for name, part in (found.get("splits") or {}).items()},
            str(found.get("robot_type") or ""),
            int(found.get("chunks_size") or 1000),
            str(found["data_path"]),
            str(found.get("video_path") or ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected fps, features and data_path in {path}, as LeRobot writes them, found this: "
            f"{type(error).__name__} {error}"
        ) from error


def list_index_files(info: Info) -> list[Path]:
    """Return the files in `meta` that say where episodes lie and what was asked for."""
    meta = info.folder / "meta"
    found = [
        info.folder / INFO,
        *sorted(meta.glob("tasks.*")),
        *sorted(meta.glob("episodes.jsonl")),
    ]
    return [*found, *_index_files_3(info)]


def read_index(info: Info, camera: str) -> Index:
    """Return where the episodes lie, with the videos of the feature `camera`.

    Raises:
        FileNotFoundError: A file of the index is missing.
        ValueError: A damaged index, or one without episodes.
    """
    read = _read_index_3 if info.version == "v3.0" else _read_index_2
    index = read(info, camera)
    index = index.select(np.argsort(index.numbers, kind="stable"))
    if not len(index) or index.lengths.min() < 1 or np.any(np.diff(index.numbers) == 0):
        raise ValueError(
            f"expected different episodes of at least one frame in {info.folder / 'meta'}, found "
            f"{len(index)} episodes, the shortest of {min(index.lengths, default=0)} frames"
        )
    return index


def read_tasks(info: Info) -> dict[int, str]:
    """Return the instruction of each `task_index`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged file.
    """
    meta = info.folder / "meta"
    if info.version != "v3.0":
        return dict(_read_lines(meta / "tasks.jsonl", task_index=int, task=str))
    path = meta / "tasks.parquet"
    with open_parquet(path, ["task_index"]) as file:
        text = _UNNAMED if _UNNAMED in file.schema_arrow.names else "task"
    found = ParquetRows(path, ["task_index", text]).read()
    return dict(zip(found["task_index"].tolist(), found[text].tolist(), strict=True))


def choose_split(info: Info, index: Index, split: str) -> tuple[str, Index]:
    """Return the name of a split and the index of its episodes.

    Args:
        info: The data set.
        index: All episodes.
        split: Such as "train" or "train[:10]"; "" for `train`, or all episodes if the data set has
            no such split.

    Raises:
        ValueError: Unknown or empty split.
    """
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise ValueError(f"expected a split such as train[:10], found {split!r}")
    name = match["name"] or ("train" if "train" in info.splits else "")
    chosen = index
    if name:
        first, last = _bounds(info, name)
        chosen = index.select(np.flatnonzero((index.numbers >= first) & (index.numbers < last)))
    ends = [None if match[end] is None else int(match[end]) for end in ("start", "stop")]
    chosen = chosen.select(slice(*ends))
    if not len(chosen):
        raise ValueError(
            f"expected at least one episode in {split or name!r} of {info.folder}, found none of "
            f"{len(index)}; its splits are {dict(info.splits)}"
        )
    return (split or name or "all episodes"), chosen


def action_names(info: Info, feature: str) -> tuple[tuple[str, int], ...] | None:
    """Return names and sizes of the groups of values in a feature; None if it has no clear names.

    `names` of LeRobot is a list, a list in a list, `{"motors": [...]}` or `{name: place}`. Names
    such as `world_vector[0]`, `world_vector[1]` are one group.
    """
    names = _flat_names(info.features[feature].get("names"))
    shape = info.features[feature].get("shape")
    if shape is None or list(shape) != [len(names)]:
        return None
    groups: dict[str, int] = {}
    for name in names:
        group = re.sub(r"\[[^\]]*\]$", "", name)
        if group in groups and (group == name or group != next(reversed(groups))):
            return None
        groups[group] = groups.get(group, 0) + 1
    return tuple(groups.items())


def _flat_names(names: object) -> list[str]:
    if isinstance(names, Mapping):
        by_place = all(isinstance(place, int) for place in names.values())
        return sorted(names, key=names.__getitem__) if by_place else _flat_names([*names.values()])
    if isinstance(names, list):
        return [name for part in names for name in _flat_names(part)]
    return [] if names is None else [str(names)]


def _is_depth(feature: Mapping[str, Any]) -> bool:
    told = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(told.get("is_depth_map") or told.get("video.is_depth_map"))


def _bounds(info: Info, name: str) -> tuple[int, int]:
    part = lookup(info.splits, name, f"the split of {info.folder}")
    match = _RANGE.fullmatch(part)
    if match is None:
        raise ValueError(
            f"expected the split {name!r} as first:last in {info.folder / INFO}, found {part!r}"
        )
    return int(match[1]), int(match[2])


def _read_index_3(info: Info, camera: str) -> Index:
    folder, paths = info.folder / "meta/episodes", _index_files_3(info)
    if not paths:
        raise FileNotFoundError(
            f"expected the index of the episodes in {folder}, found no Parquet file; download the "
            "data set again"
        )
    names = ["episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index"]
    video = [f"videos/{camera}/{name}" for name in ("chunk_index", "file_index")]
    times = [f"videos/{camera}/{name}" for name in ("from_timestamp", "to_timestamp")]
    is_video = info.features[camera]["dtype"] == "video"
    wanted = [*names, *video, *times] if is_video else names
    parts = [ParquetRows(path, wanted).read() for path in paths]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in wanted}
    for name, values in whole.items():
        if values.dtype.kind not in "if" or not np.isfinite(values).all():
            raise ValueError(f"expected a number in every row of {name} in {folder}, found others")
    data = np.stack([whole["data/chunk_index"], whole["data/file_index"]], axis=1)
    return Index(
        whole["episode_index"],
        whole["length"],
        data,
        _rows_in_files(data, whole["dataset_from_index"]),
        np.stack([whole[name] for name in video], axis=1) if is_video else data,
        np.stack([whole[name] for name in times], axis=1) if is_video else np.zeros(data.shape),
    )


def _index_files_3(info: Info) -> list[Path]:
    return sorted((info.folder / "meta/episodes").glob("*/*.parquet"))


def _rows_in_files(files: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first row of each episode in its own file, (E,), from that in the data set."""
    _, file = np.unique(files, axis=0, return_inverse=True)
    file = file.reshape(-1)
    firsts = np.full(len(rows), np.iinfo(np.int64).max)
    np.minimum.at(firsts, file, rows)
    return rows - firsts[file]


def _read_index_2(info: Info, camera: str) -> Index:
    path = info.folder / "meta/episodes.jsonl"
    lines = list(_read_lines(path, episode_index=int, length=int))
    numbers, lengths = np.array(lines, np.int64).reshape(-1, 2).T
    files = np.stack([numbers // info.chunks_size, numbers], axis=1)
    times = np.full(files.shape, [0, np.nan])
    return Index(numbers, lengths, files, np.zeros_like(numbers), files, times)


def _read_lines(path: Path, **kinds: type) -> Iterator[tuple[Any, ...]]:
    """Yield the values of these names, with their types, from each line of a JSON Lines file."""
    check_is_there(path)
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _read_line(line, kinds, f"line {number} of {path}")


def _read_line(line: str, kinds: Mapping[str, type], origin: str) -> tuple[Any, ...]:
    try:
        found = json.loads(line)
        values = tuple(found[name] for name in kinds)
        wrong = not all(isinstance(v, kind) for v, kind in zip(values, kinds.values(), strict=True))
    except (KeyError, TypeError, ValueError):
        wrong = True
    if wrong:
        names = " and ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        raise ValueError(f"expected {names} in {origin}, found {brief(line.strip(), 100)}")
    return values


def _read_json(path: Path) -> Mapping[str, Any]:
    check_is_there(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, found this: {error}; copy it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected settings by name in {path}, found {brief(found, 100)}")
    return found


def check_is_there(path: Path) -> None:
    """Refuse a missing file of a data set, and a git-LFS pointer.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A git-LFS pointer.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"expected the file {path}, found none; download the data set again"
        )
    check_not_lfs_pointer(path)
