"""Prepared data: the one format on disk that `v2w prepare` writes and training streams.

A folder is a LeRobot v3.0 data set with image features, which LeRobot, pandas, DuckDB and the
Hugging Face Hub read, and `v2w.json` beside it:

    meta/info.json                           features, rate, counts
    meta/tasks.parquet                       instruction -> task_index
    meta/episodes/chunk-000/file-000.parquet one row an episode: id, instruction, length, place
    meta/stats.json                          mean, deviation and range of actions and pixels
    data/chunk-000/file-000.parquet          one row a frame: picture, action, time, indices
    v2w.json                                 format, robot, source, settings, report, sha256

Row t of an episode holds the picture of frame t, and the action that leads to frame t + 1 as the
robot executes it. The last row's action, which leads nowhere, is at rest. `next.success` of row t
is whether frame t + 1 shows the task solved; the last row repeats it.

Each episode begins a row group, and each row group holds at most `ROW_GROUP` frames, so a clip is
read without the frames around it. Pages carry checksums: a flipped byte is found when it is read.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import ActionField
from v2w_gym.configs.robots import ROBOTS, RobotSpec
from v2w_gym.configs.text import printable
from v2w_gym.world_models.data.decoding.encoded import decode_into
from v2w_gym.world_models.data.episode import Episode, Steps, rows_of
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.files import sha256_of

FORMAT = "v2w-data-1"
CARD = "v2w.json"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
NEEDED = ("source", "camera", "image", "row_group", "episodes", "files", "report")
"""Entries of the card, besides its format and robot."""
FILES_IN_CHUNK = 1000
ROW_GROUP = 32
"""Frames in a row group: two clips of 16 frames."""
OPEN_FILES = 32
"""Data files that stay open in one process."""
AGAIN = "copy it again, or prepare it again in another folder"


def data_file(number: int) -> str:
    """Return the path of a data file in its folder."""
    chunk, file = divmod(number, FILES_IN_CHUNK)
    return f"data/chunk-{chunk:03d}/file-{file:03d}.parquet"


class PreparedData:
    """Random access to the episodes of a prepared folder. It is a `Source`, too.

    Memory holds an index of the episodes and a few open files. A copy in another process, which
    pickling makes, opens its own files.

    Attributes:
        folder: The folder.
        card: Content of `v2w.json`.
        robot: The robot whose frames and actions these are.
        lengths: (E,) number of frames of each episode.
    """

    def __init__(self, folder: Path, card: Mapping[str, Any], index: Mapping[str, Any]) -> None:
        """Keep the index; see `open_prepared`."""
        self.folder, self.card = folder, card
        self.robot = robot_from_json(card["robot"])
        self.lengths: NDArray[np.int64] = index["length"]
        self._index = index
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs."""
        return {"folder": self.folder, "card": self.card, "index": self._index}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Begin without open files."""
        self.__init__(**state)  # type: ignore[misc]

    def __len__(self) -> int:
        """Return the number of episodes (E)."""
        return len(self.lengths)

    def ids(self) -> tuple[str, ...]:
        """Return the name of each episode in its source."""
        return self._index["v2w/id"]

    @property
    def name(self) -> str:
        """Name of the source that was prepared."""
        return str(self.card["source"]["name"])

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The data files."""
        return tuple(self.folder / name for name in self.card["files"])

    @property
    def camera(self) -> str:
        """Name of the camera."""
        return str(self.card["camera"])

    def frames(
        self,
        episode: int,
        start: int = 0,
        stop: int | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Return frames `start` to `stop` of an episode, (n, H, W, 3).

        Args:
            episode: Number of the episode.
            start: First frame.
            stop: Frame after the last one; None for all.
            out: Where to write them; None for new memory, which costs as much as a copy.

        Raises:
            IndexError: No such episode or frames.
            ValueError: A damaged file.
        """
        pictures = self.pictures(episode, start, stop)
        found = out
        if found is None:
            found = np.empty((len(pictures), *self.robot.frame_size, 3), np.uint8)
        for place, picture in zip(found, pictures, strict=True):
            self._decode(episode, picture, place)
        return found

    def pictures(self, episode: int, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Return frames `start` to `stop` of an episode as the stored JPEG or PNG files.

        Raises:
            IndexError: No such episode or frames.
            ValueError: A damaged file.
        """
        rows = self._rows(episode, str(self.card["image"]), start, stop)
        return rows.field("bytes").to_pylist()

    def actions(self, episode: int, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return the actions between frames `start` to `stop` of an episode, (n - 1, A).

        Raises:
            IndexError: No such episode or frames.
            ValueError: A damaged file.
        """
        rows = self._rows(episode, "action", start, stop)
        return rows.flatten().to_numpy().reshape(-1, self.robot.action_size)[:-1]

    def episode(self, number: int) -> Episode:
        """Return an episode; its frames are decoded on demand.

        Raises:
            IndexError: No such episode.
            ValueError: A damaged file.
        """
        return Episode(
            id=self.ids()[number],
            frames=PreparedFrames(self, number),
            actions=self.actions(number),
            instruction=self._index["v2w/instruction"][number],
            camera=self.camera,
            rate=self.robot.control_hz,
            robot=self.robot.name,
            task=self._index["v2w/task"][number],
            success=self._success(number),
        )

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield the episodes from number `start` up to `stop`; see `Source`."""
        for number in range(len(self))[start:stop]:
            yield self.episode(number)

    def check_files(self) -> None:
        """Read every data file, and compare it with its sha256.

        Raises:
            ValueError: A damaged file.
        """
        for path, stored in zip(self.files, self.card["files"].values(), strict=True):
            if sha256_of(path) != stored["sha256"]:
                raise ValueError(f"expected {path} as it was written, found other bytes; {AGAIN}")

    def _success(self, number: int) -> NDArray[np.bool_] | None:
        at_start = self._index["v2w/success_at_start"][number]
        if at_start is None:
            return None
        after = self._rows(number, "next.success", 0, None).to_numpy(zero_copy_only=False)
        return np.concatenate([[at_start], after[:-1]]).astype(np.bool_)

    def _rows(self, episode: int, column: str, start: int, stop: int | None) -> Any:
        """Return some rows of one column as an Arrow array."""
        length = int(self.lengths[episode])
        stop = length if stop is None else stop
        if not 0 <= start < stop <= length:
            raise IndexError(
                f"expected frames from 0 to {length} in episode {episode}, found {start} to {stop}"
            )
        size, offset = self.card["row_group"], int(self._index["v2w/row_group"][episode])
        first, last = start // size, (stop - 1) // size
        rows = self._read(episode, list(range(offset + first, offset + last + 1)), column)
        return rows.slice(start - first * size, stop - start)

    def _file(self, episode: int) -> int:
        """Return the number of the data file with an episode."""
        chunk, file = (self._index[f"data/{name}_index"][episode] for name in ("chunk", "file"))
        return FILES_IN_CHUNK * int(chunk) + int(file)

    def _read(self, episode: int, groups: list[int], column: str) -> Any:
        import pyarrow as pa

        file = self._file(episode)
        path = self.folder / data_file(file)
        with self._lock:  # a Parquet file is not for several threads at once
            try:
                table = self._opened(file, path).read_row_groups(
                    groups, columns=[column], use_threads=False
                )
            except (OSError, pa.ArrowException) as error:
                if not path.exists():
                    raise
                raise ValueError(
                    f"expected whole data in {path} (episode {self.ids()[episode]}), "
                    f"{_found(error)}"
                ) from error
        return table.column(0).combine_chunks()

    def _opened(self, file: int, path: Path) -> Any:
        """Return an open file; the one that was not used for the longest time is closed."""
        import pyarrow.parquet as pq

        if file not in self._open:
            self._open[file] = pq.ParquetFile(
                path, page_checksum_verification=True, pre_buffer=False
            )
        self._open.move_to_end(file)
        while len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[1].close()
        return self._open[file]

    def _decode(self, episode: int, picture: bytes, out: NDArray[np.uint8]) -> None:
        try:
            decode_into(picture, out)
        except ValueError as error:
            path = self.folder / data_file(self._file(episode))
            raise ValueError(
                f"expected pictures in {path} (episode {self.ids()[episode]}), {_found(error)}"
            ) from error


@dataclass(frozen=True)
class PreparedFrames:
    """The frames of one prepared episode; see `EncodedFrames`.

    Attributes:
        data: The folder.
        number: Number of the episode.
    """

    data: PreparedData
    number: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return int(self.data.lengths[self.number])

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return some frames; see `Frames`."""
        rows = rows_of(steps, len(self))
        if not len(rows):
            return np.empty((0, *self.data.robot.frame_size, 3), np.uint8)
        if (np.diff(rows) == 1).all():
            return self.data.frames(self.number, int(rows[0]), int(rows[-1]) + 1)
        return np.concatenate([self.data.frames(self.number, row, row + 1) for row in rows])

    def encoded(self, step: int) -> bytes:
        """Return the stored picture of one frame."""
        row = range(len(self))[step]
        return self.data.pictures(self.number, row, row + 1)[0]


def is_prepared(path: Path) -> bool:
    """Whether a folder has the file that `v2w prepare` writes last."""
    return (path / CARD).is_file()


def open_prepared(folder: Path) -> PreparedData:
    """Open a folder that `v2w prepare` wrote.

    Raises:
        FileNotFoundError: No such folder, or one that is not whole.
        ValueError: A damaged folder, or another version of the format.
    """
    if not is_prepared(folder):
        raise FileNotFoundError(
            f"expected data prepared by `v2w prepare` in {folder}, found no {CARD} there; run the "
            "same command again if it was interrupted"
        )
    card = _read_card(folder / CARD)
    for name, stored in card["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else "nothing"
        if size != stored["bytes"]:
            raise ValueError(f"expected {stored['bytes']} bytes at {path}, found {size}; {AGAIN}")
    return PreparedData(folder, card, _read_index(folder / EPISODES, card["episodes"]["sha256"]))


def open_source(path: Path, wanted: Wanted) -> PreparedData:
    """Open a prepared folder as a source.

    Raises:
        ValueError: A split, fields or a camera, which prepared data lacks; or a damaged folder.
    """
    if wanted != Wanted():
        raise ValueError(
            f"expected no split, fields or camera for prepared data, found {wanted}; they were "
            "chosen when it was prepared"
        )
    return open_prepared(path)


def robot_to_json(robot: RobotSpec) -> dict[str, Any]:
    """Return a robot as JSON values."""
    found = json.loads(json.dumps({**asdict(robot), "moves_by_field": dict(robot.moves_by_field)}))
    return dict(found)


def robot_from_json(stored: Mapping[str, Any]) -> RobotSpec:
    """Return the robot that `robot_to_json` described, this package's own if it is the same."""
    ours = ROBOTS.get(str(stored["name"]))
    if ours is not None and robot_to_json(ours) == stored:
        return ours
    fields = tuple(ActionField(**{**f, "labels": tuple(f["labels"])}) for f in stored["fields"])
    return RobotSpec(**{**stored, "fields": fields, "frame_size": tuple(stored["frame_size"])})


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        robot_from_json(card["robot"])
        version, _ = card["format"], [card[name] for name in NEEDED]
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(
            f"expected the card of prepared data in {path}, {_found(error)}"
        ) from error
    if version != FORMAT:
        raise ValueError(f"expected format {FORMAT} in {path}, found {printable(str(version))}")
    return dict(card)


def _read_index(path: Path, sha256: str) -> dict[str, Any]:
    """Return the columns of the episodes: numbers as arrays, text as tuples."""
    import pyarrow.parquet as pq

    found = sha256_of(path) if path.is_file() else "no file"
    if found != sha256:
        raise ValueError(f"expected {path} with sha256 {sha256}, found {found}; {AGAIN}")
    numbers = ("length", "data/chunk_index", "data/file_index", "v2w/row_group")
    others = ("v2w/id", "v2w/instruction", "v2w/task", "v2w/success_at_start")
    table = pq.read_table(path, columns=[*numbers, *others])
    return {
        **{name: table.column(name).to_numpy() for name in numbers},
        **{name: tuple(table.column(name).to_pylist()) for name in others},
    }


def _found(error: Exception) -> str:
    return f"found {printable(str(error) or type(error).__name__, 200)}; {AGAIN}"
