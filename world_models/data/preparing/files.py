"""The files of prepared data: Parquet of frames and episodes, and JSON beside them."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.prepared import (
    EPISODES,
    FILES_IN_CHUNK,
    INFO,
    ROW_GROUP,
    STATS,
    TASKS,
)
from v2w_gym.world_models.data.preparing.episodes import ReadyEpisode
from v2w_gym.world_models.data.preparing.report import Moments, Report
from v2w_gym.world_models.files import replacing, write_text

IMAGES = "observation.images."
LEROBOT_VERSION = "v3.0"
LEROBOT_MB = {"data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
"""Sizes at which LeRobot begins a new file if it appends to the data set."""
WHOLE = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
"""Options for files of pictures, which are compressed already."""
EPISODE = {
    "episode_index": "int64",
    "length": "int64",
    "data/chunk_index": "int64",
    "data/file_index": "int64",
    "dataset_from_index": "int64",
    "dataset_to_index": "int64",
    "meta/episodes/chunk_index": "int64",
    "meta/episodes/file_index": "int64",
    "v2w/id": "string",
    "v2w/instruction": "string",
    "v2w/task": "string",
    "v2w/success_at_start": "bool_",
    "v2w/row_group": "int64",
}
"""Columns of the table of episodes, besides the list `tasks`, with their types."""
INDICES = ("frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Columns:
    """What the data files of one data set have in common.

    Attributes:
        robot: The robot.
        camera: Name of the camera.
        labelled: Whether the column `next.success` exists.
    """

    robot: RobotSpec
    camera: str
    labelled: bool

    @property
    def image(self) -> str:
        """Name of the column of pictures: LeRobot allows no slash."""
        return IMAGES + (re.split(r"[./]", self.camera)[-1] or "image")

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """The features as `info.json` describes them."""
        height, width = self.robot.frame_size
        names = ["height", "width", "channels"]
        action = [len(self.robot.value_names)], list(self.robot.value_names)
        return {
            self.image: _feature("image", [height, width, 3], names),
            "action": _feature("float32", *action),
            **({"next.success": _feature("bool", [1])} if self.labelled else {}),
            "timestamp": _feature("float32", [1]),
            **{name: _feature("int64", [1]) for name in INDICES},
        }

    def schema(self) -> Any:
        """Return the Arrow schema, with the features as the library `datasets` describes them."""
        import pyarrow as pa

        types = {
            "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            "action": pa.list_(pa.float32(), self.robot.action_size),
            **{"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()},
        }
        fields = {
            name: types.get(name, types[feature["dtype"]])
            for name, feature in self.features.items()
        }
        stored = {"info": {"features": {name: self._hub_type(name) for name in fields}}}
        return pa.schema(fields, metadata={"huggingface": json.dumps(stored)})

    def _hub_type(self, name: str) -> dict[str, Any]:
        kind = self.features[name]["dtype"]
        if kind == "image":
            return {"_type": "Image"}
        value = {"dtype": kind, "_type": "Value"}
        if name != "action":
            return value
        return {"feature": value, "length": self.robot.action_size, "_type": "Sequence"}


@dataclass(frozen=True)
class Numbers:
    """Numbers of the next episode to write.

    Attributes:
        episode: Number of the episode.
        frame: Number of its first frame among all.
        file: Number of the data file.
        row_group: Number of its first row group in that file.
    """

    episode: int
    frame: int
    file: int
    row_group: int

    def after(self, frames: int) -> "Numbers":
        """Return the numbers of the next episode in the same file."""
        groups = -(-frames // ROW_GROUP)
        return Numbers(self.episode + 1, self.frame + frames, self.file, self.row_group + groups)


@contextmanager
def writing(path: Path, columns: Columns) -> Iterator[Any]:
    """Yield a Parquet writer of a data file, which appears when the block succeeds."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(path) as partial,
        pq.ParquetWriter(partial, columns.schema(), write_page_checksum=True, **WHOLE) as writer,
    ):
        yield writer


def write_episode(
    writer: Any, columns: Columns, episode: ReadyEpisode, numbers: Numbers, task: int
) -> dict[str, Any]:
    """Append one episode to a data file.

    Args:
        writer: The file's writer; see `writing`.
        columns: Columns of the file.
        episode: The episode.
        numbers: Its numbers.
        task: Number of its instruction.

    Returns:
        Its row in the table of episodes.
    """
    for start in range(0, len(episode), ROW_GROUP):
        rows = slice(start, min(start + ROW_GROUP, len(episode)))
        writer.write_table(_table(columns, episode, rows, numbers, task))
    chunk, file = divmod(numbers.file, FILES_IN_CHUNK)
    return {
        "episode_index": numbers.episode,
        "tasks": [episode.instruction or ""],
        "length": len(episode),
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": numbers.frame,
        "dataset_to_index": numbers.frame + len(episode),
        "meta/episodes/chunk_index": 0,
        "meta/episodes/file_index": 0,
        "v2w/id": episode.id,
        "v2w/instruction": episode.instruction,
        "v2w/task": episode.task,
        "v2w/success_at_start": None if episode.success is None else bool(episode.success[0]),
        "v2w/row_group": numbers.row_group,
    }


def write_episodes(folder: Path, parts: Iterable[Sequence[Mapping[str, Any]]]) -> None:
    """Write the table of episodes, one part at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in EPISODE.items()])
    schema = schema.insert(1, pa.field("tasks", pa.list_(pa.string())))
    with (
        _new(folder / EPISODES) as partial,
        pq.ParquetWriter(partial, schema, write_page_checksum=True) as writer,
    ):
        for rows in parts:
            writer.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema))


def write_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """Write the table of instructions; LeRobot keeps the texts in its index."""
    import pandas as pd

    table = pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks, dtype="object"))
    with _new(folder / TASKS) as partial:
        table.to_parquet(partial, engine="pyarrow")


def write_info(folder: Path, columns: Columns, report: Report, tasks: int) -> None:
    """Write LeRobot's description of the data set."""
    info = {
        "codebase_version": LEROBOT_VERSION,
        "robot_type": columns.robot.name,
        "total_episodes": report.kept,
        "total_frames": report.frames,
        "total_tasks": tasks,
        "chunks_size": FILES_IN_CHUNK,
        **LEROBOT_MB,
        "fps": columns.robot.control_hz,
        "splits": {"train": f"0:{report.kept}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": None,
        "features": columns.features,
    }
    _write_json(folder / INFO, info)


def write_stats(folder: Path, columns: Columns, report: Report) -> None:
    """Write the moments by which LeRobot's policies normalise."""
    stats = {
        columns.image: _stats(report.pixels, (3, 1, 1), report.frames),
        "action": _stats(report.actions, (-1,), report.actions.count),
    }
    _write_json(folder / STATS, stats)


def _stats(moments: Moments, shape: tuple[int, ...], count: int) -> dict[str, Any]:
    parts = {
        "min": np.array(moments.low),
        "max": np.array(moments.high),
        "mean": moments.mean,
        "std": moments.std,
    }
    return {
        **{name: part.reshape(shape).tolist() for name, part in parts.items()},
        "count": [count],
    }


def _table(
    columns: Columns, episode: ReadyEpisode, rows: slice, numbers: Numbers, task: int
) -> Any:
    """Return some frames of an episode as one Arrow table."""
    import pyarrow as pa

    steps = np.arange(rows.start, rows.stop)
    pictures = pa.array(episode.pictures[rows], pa.binary())
    paths = pa.nulls(len(steps), pa.string())
    found = {
        columns.image: pa.StructArray.from_arrays([pictures, paths], ["bytes", "path"]),
        "action": pa.FixedSizeListArray.from_arrays(
            pa.array(episode.actions[rows].ravel()), columns.robot.action_size
        ),
        "next.success": _next_success(episode)[rows],
        "timestamp": pa.array((steps / columns.robot.control_hz).astype(np.float32)),
        "frame_index": pa.array(steps),
        "episode_index": pa.array(np.full(len(steps), numbers.episode)),
        "index": pa.array(numbers.frame + steps),
        "task_index": pa.array(np.full(len(steps), task)),
    }
    schema = columns.schema()
    return pa.Table.from_arrays([found[name] for name in schema.names], schema=schema)


def _next_success(episode: ReadyEpisode) -> Any:
    """Return whether the frame after each frame shows the task solved; null if unknown."""
    import pyarrow as pa

    if episode.success is None:
        return pa.nulls(len(episode), pa.bool_())
    after: NDArray[np.bool_] = np.append(episode.success[1:], episode.success[-1])
    return pa.array(after)


def _feature(dtype: str, shape: list[int], names: list[str] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "names": names}


@contextmanager
def _new(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        yield partial


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(values, indent=2) + "\n")
