"""Parts of an unfinished preparation: one data file each, and what is known of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.prepared import data_file
from v2w_gym.world_models.data.preparing.episodes import ReadyEpisode
from v2w_gym.world_models.data.preparing.files import Columns, Numbers, write_episode, writing
from v2w_gym.world_models.data.preparing.report import LeftOut, Report, report_from_json
from v2w_gym.world_models.data.preparing.workers import Outcome
from v2w_gym.world_models.files import sha256_of, write_text

PARTS = "parts"
MB = 1_000_000


@dataclass(frozen=True)
class Part:
    """Some consecutive episodes of the source.

    Attributes:
        report: Their counts.
        rows: Rows in the table of episodes.
        files: Path of the data file -> its bytes and sha256; empty if all were left out.
        columns: Camera, and whether success is recorded; None if that is not known yet.
    """

    report: Report
    rows: list[dict[str, Any]]
    files: dict[str, dict[str, Any]]
    columns: tuple[str, bool] | None


@dataclass
class Progress:
    """The sum of the parts that are done.

    Attributes:
        report: All counts.
        parts: Number of parts.
        files: Path of each data file -> its bytes and sha256.
        tasks: Instruction -> its number, in the order in which they occur.
        columns: Camera, and whether success is recorded; None if that is not known yet.
    """

    report: Report = field(default_factory=Report)
    parts: int = 0
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, bool] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all data files."""
        return sum(stored["bytes"] for stored in self.files.values())

    def add(self, part: Part) -> None:
        """Count one more part."""
        self.report += part.report
        self.parts += 1
        self.files.update(part.files)
        self.columns = part.columns
        for row in part.rows:
            self.tasks.setdefault(row["tasks"][0], len(self.tasks))


def write_part(
    folder: Path, outcomes: Iterator[Outcome], done: Progress, robot: RobotSpec, file_mb: float
) -> None:
    """Write the next data file, then its part, and count it.

    Args:
        folder: The folder.
        outcomes: The episodes that follow; as many are taken as fill a file.
        done: The parts before.
        robot: The robot.
        file_mb: Size at which the file is full.
    """
    part = _write_data(folder, outcomes, done, robot, file_mb * MB)
    stored = {**vars(part), "report": part.report.to_json()}
    path = _path(folder, done.parts)
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(stored) + "\n")
    done.add(part)


def load_progress(folder: Path) -> Progress:
    """Return the sum of the parts in a folder.

    Raises:
        ValueError: A damaged part, or its data file is missing.
    """
    done = Progress()
    while _path(folder, done.parts).exists():
        part = _read_part(_path(folder, done.parts))
        for name, stored in part.files.items():
            _check_file(folder / name, stored["bytes"])
        done.add(part)
    return done


def rows_of_parts(folder: Path, parts: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each part that has some."""
    for number in range(parts):
        if rows := _read_part(_path(folder, number)).rows:
            yield rows


def _write_data(
    folder: Path, outcomes: Iterator[Outcome], done: Progress, robot: RobotSpec, full: float
) -> Part:
    """Write the next data file, unless no episode is left that fits."""
    report, first = _until_kept(outcomes, done.columns is None or done.columns[1])
    if first is None:
        return Part(report, [], {}, done.columns)
    described = done.columns or (first.camera, first.success is not None)
    columns, name = Columns(robot, *described), data_file(len(done.files))
    with writing(folder / name, columns) as writer:
        more, rows = _fill(writer, columns, chain([first], outcomes), done, full)
    return Part(report + more, rows, {name: _identity(folder / name)}, described)


def _until_kept(outcomes: Iterator[Outcome], labelled: bool) -> tuple[Report, ReadyEpisode | None]:
    """Return what is left out before the next episode that is kept, and that episode."""
    report = Report()
    for outcome in outcomes:
        if isinstance(found := _labelled_alike(outcome, labelled), ReadyEpisode):
            return report, found
        report += _left_out(found)
    return report, None


def _fill(
    writer: Any, columns: Columns, outcomes: Iterator[Outcome], done: Progress, full: float
) -> tuple[Report, list[dict[str, Any]]]:
    """Write episodes until a file has `full` bytes; return their counts and rows."""
    report, rows, size, tasks = Report(), [], 0, dict(done.tasks)
    numbers = Numbers(done.report.kept, done.report.frames, len(done.files), 0)
    for outcome in outcomes:
        found = _labelled_alike(outcome, columns.labelled)
        if isinstance(found, LeftOut):
            report += _left_out(found)
            continue
        task = tasks.setdefault(found.instruction or "", len(tasks))
        rows.append(write_episode(writer, columns, found, numbers, task))
        report, numbers = report + found.report, numbers.after(len(found))
        size += found.nbytes
        if size >= full:
            break
    return report, rows


def _left_out(episode: LeftOut) -> Report:
    return Report(read=1, left_out=(episode,))


def _labelled_alike(outcome: Outcome, labelled: bool) -> Outcome:
    """Leave out an episode with success if the data set has no column for it."""
    if labelled or isinstance(outcome, LeftOut) or outcome.success is None:
        return outcome
    return LeftOut(
        outcome.number,
        outcome.id,
        "success",
        "expected an episode without recorded success, as the first one, found one with it; "
        "prepare those with success apart",
    )


def _identity(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _path(folder: Path, number: int) -> Path:
    return folder / PARTS / f"part-{number:06d}.json"


def _read_part(path: Path) -> Part:
    try:
        stored: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        columns = stored["columns"] and (str(stored["columns"][0]), bool(stored["columns"][1]))
        return Part(report_from_json(stored["report"]), stored["rows"], stored["files"], columns)
    except (ValueError, TypeError, LookupError) as error:
        raise ValueError(
            f"expected a part of an unfinished preparation in {path}, found a damaged file; delete "
            f"{path.parent.parent} and begin again"
        ) from error


def _check_file(path: Path, expected: int) -> None:
    size = path.stat().st_size if path.is_file() else "nothing"
    if size != expected:
        raise ValueError(
            f"expected {expected} bytes at {path}, found {size}; delete the folder and begin again"
        )
