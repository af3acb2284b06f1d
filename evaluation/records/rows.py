"""The record of a rollout: one row and one video, which survive an interruption at any time."""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.evaluation.records.video import read_video, write_video
from v2w_gym.judges.base import Judge
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.files import append_line, cut_torn_line, whole_lines

log = logging.getLogger(__name__)

ROWS = "rollouts.jsonl"
NO_TEXT = "\0\r "
"""Characters of a line without content; a power cut leaves zeros."""
LONGEST = 100
"""Most characters of a policy's name in its folder name; file systems allow 255."""
Key: TypeAlias = tuple[str, str, int, int]


@dataclass(frozen=True)
class Row:
    """One finished rollout.

    Attributes:
        policy: The policy's label.
        task: Name of the task.
        start: Index into `v2w_gym.starts.bundled_starts(task)`.
        start_seed: Seed of that start on the stand-in robot.
        seed: Seed of the rollout's noise.
        success: The judge's verdict; None if it abstained.
        steps: Actions taken.
        score: The judge's confidence in success, in [0, 1].
        judge: Name of the judge.
        policy_fingerprint: Of its weights and driver settings; see `RobotPolicy.fingerprint`.
        model_fingerprint: sha256 of the world model's card, which covers weights and settings.
        video: The rollout's video, relative to the run folder.
        events: Problems while the policy acted, with their counts.
    """

    policy: str
    task: str
    start: int
    start_seed: int
    seed: int
    success: bool | None
    steps: int
    score: float
    judge: str
    policy_fingerprint: str
    model_fingerprint: str
    video: str
    events: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Which rollout of a run this is."""
        return self.policy, self.task, self.start, self.seed


class RolloutStore:
    """The finished rollouts of a run folder; the same command adds the missing ones.

    A row is appended once its video is on disk, so an interruption loses no finished rollout. A
    row that is torn, or whose video is damaged, counts as not done. A later row replaces it.
    """

    def __init__(self, path: Path) -> None:
        """Open the folder at `path`, and list its finished rollouts.

        Raises:
            ValueError: A damaged row that is not the last one.
        """
        self.path = path
        cut_torn_line(path / ROWS)
        self.done = {row.key for row in read_rows(path / ROWS) if self._has_video(row)}

    def save(self, row: Row, frames: NDArray[np.uint8], fps: float) -> None:
        """Save one rollout: first the video, then the row.

        Raises:
            OSError: The disk is full, or the folder is gone.
        """
        video = self.path / row.video
        try:
            video.parent.mkdir(parents=True, exist_ok=True)
            write_video(video, frames, fps)
            append_line(self.path / ROWS, json.dumps(asdict(row)))
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}; finished rollouts are kept, so make room and run the same "
                "command again",
                str(self.path),
            ) from error
        self.done.add(row.key)

    def _has_video(self, row: Row) -> bool:
        try:
            found = len(read_video(self.path / row.video))
        except (FileNotFoundError, ValueError) as error:
            log.warning("rollout %s will be done again: %s", row.key, error)
            return False
        if found != row.steps + 1:
            log.warning(
                "rollout %s will be done again: expected %d frames in %s, found %d",
                *(row.key, row.steps + 1, row.video, found),
            )
        return found == row.steps + 1


def run_identity(
    cfg: RankConfig, model: WorldModel, policies: Sequence[RobotPolicy], judge: Judge
) -> dict[str, Any]:
    """Return what must not change when a run is resumed."""
    return {
        "model": model.fingerprint,
        "judge": judge.name,
        "policies": {policy.meta.name: policy.identity for policy in policies},
        "tasks": cfg.tasks,
        "starts": cfg.starts,
        "seeds": cfg.seeds,
    }


def video_name(policy: str, task: str, start: int, seed: int) -> str:
    """Return the path of a rollout's video in its run folder; no two policies share a path."""
    return f"videos/{_folder_name(policy)}/{task}_{start:04d}_{seed:04d}.mp4"


def _folder_name(policy: str) -> str:
    """Return a policy's name if every disk allows it, else its safe characters and a digest."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", policy)[:LONGEST]
    if plain == policy and plain.strip("."):
        return plain
    return f"{plain.strip('.')}-{hashlib.sha256(policy.encode()).hexdigest()[:8]}"


def load_rows(path: Path) -> pd.DataFrame:
    """Read the rows of a run as a table, sorted by policy, task, start and seed.

    `success` is True, False, or None where the judge abstained.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A damaged line that is not the last one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected rollouts at {path}, found none; run `v2w rank` first")
    rows = sorted(read_rows(path), key=lambda row: row.key)
    table = pd.DataFrame([asdict(row) for row in rows], columns=[f.name for f in fields(Row)])
    return table.astype({"success": object})


def read_rows(path: Path) -> list[Row]:
    """Read every whole row; where a rollout was done again, the later row counts.

    Raises:
        ValueError: A damaged line that is not the last one.
    """
    rows: dict[Key, Row] = {}
    for number, line in enumerate(whole_lines(path), start=1):
        if not line.strip(NO_TEXT):
            continue
        try:
            row = Row(**json.loads(line))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(
                f"expected one rollout per line in {path}, found {error} in line {number}; delete "
                "that line and run the same command again"
            ) from error
        rows[row.key] = row
    return list(rows.values())
