"""Convert recorded data once to the format that training streams; see `prepared`."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS, RobotSpec
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data.fit import scale_factors
from v2w_gym.world_models.data.prepared import (
    CARD,
    EPISODES,
    FORMAT,
    ROW_GROUP,
    PreparedData,
    is_prepared,
    open_prepared,
    robot_to_json,
)
from v2w_gym.world_models.data.preparing.files import (
    Columns,
    write_episodes,
    write_info,
    write_stats,
    write_tasks,
)
from v2w_gym.world_models.data.preparing.parts import (
    MB,
    PARTS,
    Progress,
    load_progress,
    rows_of_parts,
    write_part,
)
from v2w_gym.world_models.data.preparing.report import LeftOut, Report
from v2w_gym.world_models.data.preparing.workers import Outcome, read_outcomes
from v2w_gym.world_models.data.sources.base import Source
from v2w_gym.world_models.data.sources.opening import find_fields
from v2w_gym.world_models.data.sources.selection import identify_ids, open_selected
from v2w_gym.world_models.files import sha256_of, write_text
from v2w_gym.world_models.run_folder import (
    LOCK,
    RunFolder,
    hold_folder,
    identify_files,
    read_identity,
)

log = logging.getLogger(__name__)

IDENTITY = "run.json"
"""The file with what determines the result; `RunFolder` writes it."""
MOST_WORKERS = 16
"""Processes by default; more would wait for the one that writes."""
FIRST = 32
"""Episodes after which the command ends if none of them fits."""
NOT_SETTINGS = {"source", "output", "workers", "ids", "excluded"}
"""Settings that do not change the result, or are identified by their content."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def prepare(cfg: PrepareConfig) -> PreparedData:
    """Prepare the recorded data that the settings choose; see `prepare_source`.

    Raises:
        FileNotFoundError: No such data.
        ModuleNotFoundError: The format needs an extra that is not installed.
        ValueError: An unknown format or robot, or as for `prepare_source`.
    """
    return prepare_source(open_selected(cfg), cfg, cfg.workers or min(_count_cpus(), MOST_WORKERS))


def prepare_source(source: Source, cfg: PrepareConfig, workers: int = 1) -> PreparedData:
    """Prepare a source of any kind, or continue where an earlier run was interrupted.

    Every data file appears as a whole, so an interrupted run loses one file at most. The result
    depends on the source and the settings, not on the number of workers or on interruptions. A
    finished folder is checked against its checksums.

    Args:
        source: The source.
        cfg: The settings. Those that open a source count for several workers only.
        workers: Number of processes; if there are several, each opens the source itself.

    Raises:
        BlockingIOError: Another process works in the folder.
        OSError: The source cannot be read, or the folder cannot be written.
        ValueError: Wrong settings, no episode fits, or the folder holds other data.
    """
    robot = lookup(ROBOTS, cfg.robot, "robot")
    scale_factors(cfg.scale, robot)
    identity = _identity(source, robot, cfg)
    with hold_folder(to_path(cfg.output)) as folder:
        run = RunFolder(folder, identity, noted_in=IDENTITY)
        _check_ours(folder)
        if is_prepared(folder):
            open_prepared(folder).check_files()
        else:
            done = load_progress(folder)
            _write_all(run, source, robot, cfg, done, workers)
            _finish(folder, identity, robot, done)
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        return open_prepared(folder)


def _count_cpus() -> int:
    """Return the number of CPUs that this process may use, where the system tells it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _identity(source: Source, robot: RobotSpec, cfg: PrepareConfig) -> dict[str, Any]:
    """Return what determines the result."""
    settings = {name: value for name, value in asdict(cfg).items() if name not in NOT_SETTINGS}
    if cfg.fields:  # a YAML file may change
        settings["fields"] = asdict(find_fields(cfg.fields))
    return {
        "format": FORMAT,
        "row_group": ROW_GROUP,
        "robot": robot_to_json(robot),
        "source": {
            "name": source.name,
            "files": identify_files(source.files),
            "episodes": len(source),
            "ids": identify_ids(cfg.ids),
            "excluded": identify_ids(cfg.excluded),
        },
        "settings": settings,
    }


def _check_ours(folder: Path) -> None:
    """Check that a folder is new or holds this run, so that no other data set is overwritten."""
    if read_identity(folder / IDENTITY) is None:
        others = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, IDENTITY))
        if others:
            raise ValueError(
                f"expected a new or empty folder at {folder}, found {', '.join(others[:4])} there; "
                "choose another output=..."
            )


def _write_all(
    run: RunFolder,
    source: Source,
    robot: RobotSpec,
    cfg: PrepareConfig,
    done: Progress,
    workers: int,
) -> None:
    """Write the parts that are not done."""
    total = min(len(source), cfg.limit or len(source))
    outcomes = read_outcomes(source, cfg, done.report.read, total, workers)
    with closing(_shown(outcomes, done.report.read, total)) as shown:
        following = shown if done.report.kept else _expect_some(shown, done.report, source, robot)
        folder = run.begin()
        while done.report.read < total:
            with _explaining_a_full_disk(folder, done, total):
                write_part(folder, following, done, robot, cfg.file_mb)
            if done.parts == 1:
                _log_size(folder, done, total)


@contextmanager
def _explaining_a_full_disk(folder: Path, done: Progress, total: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            f"expected about {_needed(done, total)} for {folder}, found no space left; free some "
            "and run the same command: it continues where it was"
        ) from error


def _expect_some(
    outcomes: Iterator[Outcome], before: Report, source: Source, robot: RobotSpec
) -> Iterator[Outcome]:
    """Return `outcomes`, after a look at the first ones, of which one must fit the robot.

    Raises:
        ValueError: None does.
    """
    first, unfit = [], list(before.left_out)
    for outcome in outcomes:
        first.append(outcome)
        if not isinstance(outcome, LeftOut):
            return chain(first, outcomes)
        unfit.append(outcome)
        if len(unfit) >= FIRST:
            break
    kind, count, example = Report(left_out=tuple(unfit)).kinds()[0]
    raise ValueError(
        f"expected episodes of robot {robot.name!r} in {source.name}, found none among the first "
        f"{len(unfit)}; {count} for this reason ({kind}): {example.reason}"
    )


def _shown(outcomes: Iterator[Outcome], start: int, total: int) -> Generator[Outcome, None, None]:
    """Yield `outcomes`, and show a progress bar with the rate at which data is read."""
    size = left_out = 0
    with tqdm(total=total, initial=start, unit="episode", desc="preparing") as bar:
        for outcome in outcomes:
            if isinstance(outcome, LeftOut):
                left_out += 1
            else:
                size += outcome.nbytes
            rate = size / MB / max(bar.format_dict["elapsed"], 1e-3)
            bar.set_postfix_str(f"{rate:.1f} MB/s, {left_out} left out", refresh=False)
            bar.update()
            yield outcome


def _log_size(folder: Path, done: Progress, total: int) -> None:
    """Log how much space the rest needs, as far as the first file shows."""
    if done.report.read == total:
        return
    rest = done.nbytes * (total / done.report.read - 1)
    free = shutil.disk_usage(folder).free
    log.info("about %s in all; %s are free at %s", _needed(done, total), _gigabytes(free), folder)
    if rest > free:
        log.warning(
            "this is more than is free: free some space, or interrupt and choose another output"
        )


def _needed(done: Progress, total: int) -> str:
    return _gigabytes(done.nbytes * total / max(done.report.read, 1)) if done.parts else "more"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"


def _finish(folder: Path, identity: Mapping[str, Any], robot: RobotSpec, done: Progress) -> None:
    """Write the tables, then the card, which makes the folder whole."""
    assert done.columns is not None
    columns = Columns(robot, *done.columns)
    write_episodes(folder, rows_of_parts(folder, done.parts))
    write_tasks(folder, list(done.tasks))
    write_info(folder, columns, done.report, len(done.tasks))
    write_stats(folder, columns, done.report)
    card = {
        **identity,
        "camera": columns.camera,
        "image": columns.image,
        "report": _without_moments(done.report.to_json()),
        "episodes": {"sha256": sha256_of(folder / EPISODES)},
        "files": done.files,
    }
    write_text(folder / CARD, json.dumps(card, indent=2) + "\n")


def _without_moments(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what `meta/stats.json` holds."""
    return {name: value for name, value in stored.items() if name not in ("actions", "pixels")}
