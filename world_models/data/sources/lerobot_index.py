"""Where the episodes of a LeRobot data set lie, and what was asked for in them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.text import brief
from v2w_gym.world_models.data.decoding.parquet import ParquetRows, open_parquet
from v2w_gym.world_models.data.sources.lerobot_info import INFO, Info
from v2w_gym.world_models.downloads import check_present

_UNNAMED = "__index_level_0__"
"""The column of `tasks.parquet` with the instructions, as LeRobot before 0.5 names it."""
_SPLIT = re.compile(r"(?P<name>[^\[\]]*)(\[(?P<start>-?\d+)?:(?P<stop>-?\d+)?\])?")


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
        first, last = info.bounds(name)
        chosen = index.select(np.flatnonzero((index.numbers >= first) & (index.numbers < last)))
    ends = [None if match[end] is None else int(match[end]) for end in ("start", "stop")]
    chosen = chosen.select(slice(*ends))
    if not len(chosen):
        raise ValueError(
            f"expected at least one episode in {split or name!r} of {info.folder}, found none of "
            f"{len(index)}; its splits are {dict(info.splits)}"
        )
    return (split or name or "all episodes"), chosen


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
    is_video = info.is_video(camera)
    whole = _read_numbers(paths, [*names, *video, *times] if is_video else names)
    numbers, lengths, *data, firsts = (whole[name] for name in names)
    files = np.stack(data, axis=1)
    return Index(
        numbers,
        lengths,
        files,
        _rows_in_files(files, firsts),
        np.stack([whole[name] for name in video], axis=1) if is_video else files,
        np.stack([whole[name] for name in times], axis=1) if is_video else np.zeros(files.shape),
    )


def _read_numbers(paths: Sequence[Path], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return columns of numbers, which continue from file to file."""
    parts = [ParquetRows(path, names).read() for path in paths]
    for path, part in zip(paths, parts, strict=True):
        for name, values in part.items():
            if values.dtype.kind not in "if" or not np.isfinite(values).all():
                raise ValueError(
                    f"expected a number in every row of {name} in {path}, found others"
                )
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


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
    check_present(path)
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
