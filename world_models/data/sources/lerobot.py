"""LeRobot data sets of versions 2.0, 2.1 and 3.0, with frames in videos or as pictures.

Frames equal those that LeRobot's own reader returns with the backend `pyav`.

Source: https://github.com/huggingface/lerobot, `lerobot.datasets`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.sources import SourceFields
from v2w_gym.world_models.data.decoding.parquet import ParquetRows, import_parquet
from v2w_gym.world_models.data.decoding.stored_pictures import StoredPictures
from v2w_gym.world_models.data.decoding.video_frames import VideoFrames
from v2w_gym.world_models.data.episode import Episode, Frames
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.expressions import (
    ActionFields,
    parse_expression,
    read_actions,
)
from v2w_gym.world_models.data.sources.lerobot_index import (
    Index,
    choose_split,
    list_index_files,
    read_index,
    read_tasks,
)
from v2w_gym.world_models.data.sources.lerobot_info import INFO, Info, action_names, read_info
from v2w_gym.world_models.downloads import check_present

ACTION, TASK = "action", "task"
SUCCESSES = ("next.success", "success")
"""Features that say whether a task is solved; the first one that a data set has is read."""
_ROW = ("episode_index", "task_index", "timestamp")


def recognises(path: Path) -> bool:
    """Whether a folder holds a LeRobot data set."""
    return (path / INFO).is_file()


def open_lerobot(path: Path, wanted: Wanted) -> "LerobotSource":
    """Open a LeRobot data set; only its descriptions in `meta` are read.

    Raises:
        FileNotFoundError: A file is missing.
        ModuleNotFoundError: pyarrow is not installed.
        ValueError: Another version, a damaged file, an unknown or empty split, an unknown camera or
            field, or several cameras of which none is chosen.
    """
    import_parquet()
    info = read_info(path)
    columns = _choose_columns(info, wanted.fields or SourceFields(), wanted.camera)
    split, index = choose_split(info, read_index(info, columns.frames), wanted.split)
    tasks = read_tasks(info) if columns.instruction == TASK else {}
    source = LerobotSource(info, index, columns, tasks, split)
    source.check_first_files()
    return source


@dataclass(frozen=True)
class Columns:
    """Where a data set keeps what an episode needs.

    Attributes:
        camera: Short name of the camera.
        frames: Feature with its frames.
        actions: Action field -> expression; empty without actions.
        action_fields: Names and sizes of the action values; None for those of `actions`.
        instruction: Column with text; "task" for the episode's task.
        success: Column that says whether the task is solved; "" without one.
        robot: Name of the `RobotSpec`; None if unknown.
        rate: Frames per second.
    """

    camera: str
    frames: str
    actions: Mapping[str, str]
    action_fields: ActionFields | None
    instruction: str
    success: str
    robot: str | None
    rate: float

    @property
    def names(self) -> list[str]:
        """Names of the columns of numbers and text to read."""
        names = [parse_expression(text).name for text in self.actions.values()]
        text = [] if self.instruction == TASK else [self.instruction]
        return list(dict.fromkeys([*_ROW, *names, *text, *filter(None, [self.success])]))


class LerobotSource:
    """The episodes of a LeRobot data set, in the order of `episode_index`.

    Attributes:
        name: Folder, version and split.
    """

    def __init__(
        self, info: Info, index: Index, columns: Columns, tasks: Mapping[int, str], split: str
    ) -> None:
        self.name = f"{info.folder.resolve().name}, LeRobot {info.version}, {split}"
        self._info = info
        self._index = index
        self._columns = columns
        self._tasks = tasks

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The index, the Parquet files of these episodes, and their videos, as far as present."""
        found = list_index_files(self._info)
        found += [self._file(self._info.data_path, at) for at in _distinct(self._index.data)]
        if self._is_video:
            found += [self._file(self._info.video_path, at) for at in _distinct(self._index.videos)]
        return tuple(path for path in found if path.is_file())

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._index)

    def ids(self) -> Sequence[str]:
        return [_id(number) for number in self._index.numbers]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield the episodes from number `start` up to `stop`; frames are decoded on demand.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: An episode is damaged. `read` can then begin again after it.
        """
        numbers = range(len(self))[start:stop]
        for path, episodes in groupby(numbers, self._data_file):
            rows = ParquetRows(path, self._columns.names)
            for number in episodes:
                yield self._read(number, rows)

    def check_first_files(self) -> None:
        """Refuse a data set whose first files are missing, or pointers to them.

        Raises:
            FileNotFoundError, ValueError: As for `check_present`.
        """
        check_present(self._data_file(0))
        check_present(self._frames_file(0))

    @property
    def _is_video(self) -> bool:
        return self._info.is_video(self._columns.frames)

    def _read(self, number: int, rows: ParquetRows) -> Episode:
        index, columns = self._index, self._columns
        first, length = int(index.rows[number]), int(index.lengths[number])
        episode = int(index.numbers[number])
        found = rows.read(first, first + length)
        if np.any(found["episode_index"] != episode):
            raise ValueError(
                f"expected episode {episode} in rows {first} to {first + length} of {rows.path}, "
                f"found {sorted(set(found['episode_index'].tolist()))[:3]}; the index in meta "
                "belongs to other files"
            )
        name = _id(episode)
        actions, fields = self._actions(found)
        return Episode(
            name,
            self._frames(number, found["timestamp"], name),
            actions,
            fields,
            self._instruction(found, name),
            columns.camera,
            columns.rate,
            columns.robot,
            success=_to_success(found[columns.success], columns.success)
            if columns.success
            else None,
        )

    def _actions(
        self, found: Mapping[str, NDArray[Any]]
    ) -> tuple[NDArray[np.float32] | None, ActionFields | None]:
        """Return the actions between frames: that of the last row leads to no frame."""
        if not self._columns.actions:
            return None, None
        actions, fields = read_actions(self._columns.actions, found.__getitem__)
        is_whole = self._columns.actions == {ACTION: ACTION}
        return actions[:-1], self._columns.action_fields if is_whole else fields

    def _frames(self, number: int, times: NDArray[np.float32], name: str) -> Frames:
        index, feature = self._index, self._columns.frames
        path, length = self._frames_file(number), int(index.lengths[number])
        if not self._is_video:
            first = int(index.rows[number])
            return StoredPictures(path, feature, first, length, self._info.folder, name)
        begin, end = index.times[number]
        recorded = round((end - begin) * self._info.rate) if np.isfinite(end) else length
        if recorded not in (length, length - 1):  # some end at the last frame, not after it
            raise ValueError(
                f"expected {length} frames of {name} in {path}, as many as it has rows, found "
                f"{recorded} from {begin:g} to {end:g} s"
            )
        return VideoFrames(path, begin + times.astype(np.float64), name, whole=bool(np.isnan(end)))

    def _instruction(self, found: Mapping[str, NDArray[Any]], name: str) -> str | None:
        """Return the instruction at the first frame."""
        if self._columns.instruction != TASK:
            return _to_text(found[self._columns.instruction][0], self._columns.instruction)
        task = int(found["task_index"][0])
        if task not in self._tasks:
            raise ValueError(
                f"expected task {task} of {name} among the tasks of {self._info.folder}, found "
                f"{len(self._tasks)} others"
            )
        return self._tasks[task] or None

    def _data_file(self, number: int) -> Path:
        return self._file(self._info.data_path, self._index.data[number])

    def _frames_file(self, number: int) -> Path:
        if self._is_video:
            return self._file(self._info.video_path, self._index.videos[number])
        return self._data_file(number)

    def _file(self, template: str, place: NDArray[np.int64]) -> Path:
        folder, file = place.tolist()
        of_3 = {"chunk_index": folder, "file_index": file}
        of_2 = {"episode_chunk": folder, "episode_index": file}
        try:
            path = template.format(**of_3, **of_2, video_key=self._columns.frames)
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"expected a path with the fields of LeRobot {self._info.version} in "
                f"{self._info.folder / INFO}, found {template!r}"
            ) from error
        return self._info.folder / path


def _distinct(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each folder and file once, in order of appearance."""
    _, firsts = np.unique(places, axis=0, return_index=True)
    return places[np.sort(firsts)]


def _id(episode: int) -> str:
    return f"episode_{episode:06d}"


def _choose_columns(info: Info, fields: SourceFields, camera: str) -> Columns:
    if fields.id:
        raise ValueError(
            f"expected no id for {info.folder}, whose episodes are called {_id(0)} and so on, "
            f"found {fields.id!r}"
        )
    name = _choose_camera(info, camera or fields.frames)
    actions = _choose_actions(info, fields.actions)
    for column in (*[parse_expression(text).name for text in actions.values()], fields.success):
        if column:
            lookup(info.features, column, f"the feature of {info.folder}")
    if fields.instruction not in ("", TASK):
        lookup(info.features, fields.instruction, f"the instruction of {info.folder}")
    return Columns(
        name,
        info.cameras[name],
        actions,
        action_names(info, ACTION) if ACTION in info.features else None,
        fields.instruction or TASK,
        fields.success or next((n for n in SUCCESSES if n in info.features), ""),
        fields.robot or (info.robot_type if info.robot_type in ROBOTS else None),
        fields.rate or info.rate,
    )


def _choose_camera(info: Info, camera: str) -> str:
    """Return the short name of a camera, which may be given in full; "" for the only one."""
    cameras = info.cameras
    if not cameras:
        raise ValueError(
            f"expected a feature of camera frames (dtype image or video) in {info.folder / INFO}, "
            f"found {list(info.features)}"
        )
    if not camera and len(cameras) > 1:
        raise ValueError(
            f"expected camera= with one of the cameras of {info.folder}, {sorted(cameras)}"
        )
    shorts = {name: short for short, name in cameras.items()}
    short = shorts.get(camera, camera) or next(iter(cameras))
    lookup(cameras, short, f"the camera of {info.folder}")
    return short


def _choose_actions(info: Info, actions: Mapping[str, str]) -> Mapping[str, str]:
    if actions or ACTION in info.features:
        return actions or {ACTION: ACTION}
    near = [name for name in info.features if name.startswith(ACTION)]
    if near:
        raise ValueError(
            f"expected a feature {ACTION!r} in {info.folder}, found {near}; name one with fields=, "
            f"a YAML file such as `actions: {{world_vector: '{near[0]}[0:3]'}}`"
        )
    return {}


def _to_text(value: object, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"expected text in {name}, found {type(value).__name__}")
    return value or None


def _to_success(values: NDArray[Any], name: str) -> NDArray[np.bool_] | None:
    """Return whether the task is solved at each frame, (T,); None if all values are null.

    `next.` means after the row's action, so at the next frame. That of the last row counts for
    the last frame, because the frame after it is not recorded.
    """
    if all(value is None for value in values):
        return None
    if values.dtype.kind not in "biuf" or values.ndim != 1:
        raise ValueError(
            f"expected one number or bool a frame in {name}, found {values.dtype} of shape "
            f"{values.shape}"
        )
    solved = values > 0
    if not name.startswith("next."):
        return solved
    after = np.r_[False, solved[:-1]]
    after[-1] |= solved[-1]
    return after
