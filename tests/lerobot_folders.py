"""LeRobot data sets of versions 2.1 and 3.0, for tests that read them: exact in every pixel."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TASKS = ("open the drawer", "close the drawer")
SIZE = (16, 24)
LOSSLESS = {"qp": "0", "g": "4", "bf": "2"}
"""Options of an encoder that keeps every pixel, with frames that refer to later ones."""


@dataclass
class Recorded:
    """A data set to write; `episodes` are their lengths.

    Attributes:
        per_file: Episodes in one file of version 3.0.
        extra: More columns: name -> (description, values of all rows).
    """

    version: str = "v3.0"
    kind: str = "video"
    episodes: Sequence[int] = (6, 4, 7)
    cameras: Sequence[str] = ("observation.images.top",)
    rate: int = 10
    per_file: int = 2
    names: Any = ("dx", "dy", "gripper")
    options: dict[str, str] = field(default_factory=lambda: dict(LOSSLESS))
    extra: dict[str, tuple[dict[str, Any], list[Any]]] = field(default_factory=dict)
    splits: dict[str, str] | None = None

    @property
    def starts(self) -> list[int]:
        return np.cumsum([0, *self.episodes]).tolist()

    def place(self, episode: int) -> tuple[int, int]:
        """Return the folder and file of an episode in version 3.0; two files a folder."""
        return divmod(episode // self.per_file, 2)


def picture(episode: int, step: int, camera: int = 0) -> np.ndarray:
    rng = np.random.default_rng([episode, step, camera])
    return rng.integers(0, 256, (*SIZE, 3), np.uint8)


def actions(episode: int, length: int) -> np.ndarray:
    steps = np.arange(length)
    return np.stack([steps, steps + 100 * episode, steps % 2], axis=1).astype(np.float32)


def write_lerobot(folder: Path, recorded: Recorded) -> Path:
    folder.mkdir(parents=True)
    (folder / "meta").mkdir()
    (folder / "meta/info.json").write_text(json.dumps(info(recorded)))
    {"v2.0": write_2, "v2.1": write_2, "v3.0": write_3}[recorded.version](folder, recorded)
    return folder


def info(recorded: Recorded) -> dict[str, Any]:
    total = len(recorded.episodes)
    frames = {"dtype": recorded.kind, "shape": [*SIZE, 3], "names": ["height", "width", "channels"]}
    number = {"dtype": "int64", "shape": [1], "names": None}
    features = {
        **dict.fromkeys(recorded.cameras, frames),
        "action": {"dtype": "float32", "shape": [3], "names": recorded.names},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
        **{name: described for name, (described, _) in recorded.extra.items()},
    }
    if recorded.version == "v3.0":
        data = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        video = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    else:
        data = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    return {
        "codebase_version": recorded.version,
        "robot_type": "so101",
        "total_episodes": total,
        "total_frames": sum(recorded.episodes),
        "total_tasks": len(TASKS),
        "chunks_size": 2,
        "fps": recorded.rate,
        "splits": recorded.splits or {"train": f"0:{total}"},
        "data_path": data,
        "video_path": video if recorded.kind == "video" else None,
        "features": features,
    }


def write_3(folder: Path, recorded: Recorded) -> None:
    rows = [{"task_index": number, "task": task} for number, task in enumerate(TASKS)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/tasks.parquet")
    files = {}
    for episode in range(len(recorded.episodes)):
        files.setdefault(recorded.place(episode), []).append(episode)
    described = []
    for (chunk, number), episodes in files.items():
        name = f"chunk-{chunk:03d}/file-{number:03d}"
        write_rows(folder / f"data/{name}.parquet", recorded, episodes)
        if recorded.kind == "video":
            for camera in recorded.cameras:
                write_video(folder / f"videos/{camera}/{name}.mp4", recorded, camera, episodes)
        begin = 0.0
        for episode in episodes:
            described.append(describe(recorded, episode, chunk, number, begin))
            begin += recorded.episodes[episode] / recorded.rate
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(described), path)


def describe(
    recorded: Recorded, episode: int, chunk: int, number: int, begin: float
) -> dict[str, Any]:
    """Return a row of the index of episodes of version 3.0."""
    length, start = recorded.episodes[episode], recorded.starts[episode]
    row: dict[str, Any] = {
        "episode_index": episode,
        "tasks": [TASKS[episode % 2]],
        "length": length,
        "data/chunk_index": chunk,
        "data/file_index": number,
        "dataset_from_index": start,
        "dataset_to_index": start + length,
    }
    for camera in recorded.cameras if recorded.kind == "video" else ():
        row[f"videos/{camera}/chunk_index"] = chunk
        row[f"videos/{camera}/file_index"] = number
        row[f"videos/{camera}/from_timestamp"] = begin
        row[f"videos/{camera}/to_timestamp"] = begin + length / recorded.rate
    return row


def write_2(folder: Path, recorded: Recorded) -> None:
    tasks = [{"task_index": number, "task": task} for number, task in enumerate(TASKS)]
    episodes = [
        {"episode_index": number, "tasks": [TASKS[number % 2]], "length": length}
        for number, length in enumerate(recorded.episodes)
    ]
    for name, lines in (("tasks", tasks), ("episodes", episodes)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"meta/{name}.jsonl").write_text(text)
    for episode in range(len(recorded.episodes)):
        chunk, name = f"chunk-{episode // 2:03d}", f"episode_{episode:06d}"
        write_rows(folder / f"data/{chunk}/{name}.parquet", recorded, [episode])
        if recorded.kind == "video":
            for camera in recorded.cameras:
                path = folder / f"videos/{chunk}/{camera}/{name}.mp4"
                write_video(path, recorded, camera, [episode])


def write_rows(path: Path, recorded: Recorded, episodes: Sequence[int]) -> None:
    """Write the rows of some episodes, one row group for each, as LeRobot does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tables = [pa.table(columns(recorded, episode)) for episode in episodes]
    with pq.ParquetWriter(path, tables[0].schema) as file:
        for table in tables:
            file.write_table(table)


def columns(recorded: Recorded, episode: int) -> dict[str, Any]:
    length, start = recorded.episodes[episode], recorded.starts[episode]
    steps = np.arange(length)
    values = pa.array(actions(episode, length).ravel())
    found: dict[str, Any] = {
        "action": pa.FixedSizeListArray.from_arrays(values, 3),
        "timestamp": (steps / recorded.rate).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(length, episode),
        "index": steps + start,
        "task_index": np.full(length, episode % 2),
    }
    for name, (_, rows) in recorded.extra.items():
        found[name] = rows[start : start + length]
    for number, camera in enumerate(recorded.cameras if recorded.kind == "image" else ()):
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        stored = [
            {"bytes": to_png(picture(episode, int(step), number)), "path": f"frame-{step:06d}.png"}
            for step in steps
        ]
        found[camera] = pa.array(stored, kind)
    return found


def to_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_video(path: Path, recorded: Recorded, camera: str, episodes: Sequence[int]) -> None:
    number = list(recorded.cameras).index(camera)
    frames = [
        picture(episode, step, number)
        for episode in episodes
        for step in range(recorded.episodes[episode])
    ]
    encode(path, frames, recorded.rate, recorded.options)


def encode(path: Path, frames: Sequence[np.ndarray], rate: int, options: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264rgb", rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "rgb24"
        stream.codec_context.time_base = Fraction(1, rate)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
