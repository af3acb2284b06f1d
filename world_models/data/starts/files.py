"""Start files: the initial frames of rollouts, where they were recorded, and the actions before.

One .npz file holds N starts of one robot and camera, each of K frames. All its arrays are plain:

    frames (N, K, H, W, 3) uint8        the frames, oldest first
    actions (N, K - 1, A) float32       the actions between them; NaN throughout where unknown
    ids, instructions, tasks (N,) text  "" where the recording does not say
    steps, lengths (N,) int64           the newest frame's number in its episode, and all its frames
    seeds (N,) int64                    seed of the simulated robot's reset; -1 for a real robot
    header () text                      JSON: the format, robot, camera and source
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.data.decoding.arrays import (
    DAMAGED,
    ArrayFile,
    as_numbers,
    open_arrays,
    reading,
)
from v2w_gym.world_models.files import replacing

FORMAT = "v2w-starts-1"
HEADER = ("robot", "camera", "source")
TEXTS = ("ids", "instructions", "tasks")
NUMBERS = ("steps", "lengths", "seeds")
NO_SEED = -1


@dataclass(frozen=True)
class Start:
    """The initial condition of a rollout: K frames of an episode, and the actions between them.

    Attributes:
        id: Name of the episode, unique in its source.
        frames: (K, H, W, 3) uint8, oldest first.
        actions: (K - 1, A) float32, as the robot executes them; NaN throughout where unknown.
        step: Number of the newest frame in the episode, from 0.
        length: Number of frames in the episode.
        instruction: Instruction of the episode; None if the source has none.
        task: Name of the task; None if the source does not say.
        seed: Seed of the simulated robot's reset that shows this frame; None for a real robot.
    """

    id: str
    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    step: int = 0
    length: int = 1
    instruction: str | None = None
    task: str | None = None
    seed: int | None = None

    @property
    def frame(self) -> NDArray[np.uint8]:
        """The newest frame (H, W, 3)."""
        return self.frames[-1]

    @property
    def sha256(self) -> str:
        """The sha256 of the K frames' pixels, row by row, in hexadecimal."""
        return hashlib.sha256(np.ascontiguousarray(self.frames).tobytes()).hexdigest()


@dataclass(frozen=True)
class StartFile:
    """The starts in one file, all of one robot, camera and number of frames.

    Attributes:
        starts: At least one.
        robot: Name of the `RobotSpec`.
        camera: Name of the camera in the source; "" if there is only one.
        source: Name of the data set.
    """

    starts: Sequence[Start]
    robot: str
    camera: str
    source: str


def save_starts(path: Path, file: StartFile) -> None:
    """Write a start file atomically; equal starts give equal bytes."""
    starts = file.starts
    header = {"format": FORMAT, **{name: getattr(file, name) for name in HEADER}}
    arrays: dict[str, NDArray[Any]] = {
        "header": np.array(json.dumps(header)),
        "frames": np.stack([start.frames for start in starts]),
        "actions": np.stack([start.actions for start in starts]),
        "ids": np.array([start.id for start in starts]),
        "instructions": np.array([start.instruction or "" for start in starts]),
        "tasks": np.array([start.task or "" for start in starts]),
        "steps": np.array([start.step for start in starts], np.int64),
        "lengths": np.array([start.length for start in starts], np.int64),
        "seeds": np.array(
            [NO_SEED if start.seed is None else start.seed for start in starts], np.int64
        ),
    }
    with replacing(path) as partial, partial.open("wb") as out:
        np.savez_compressed(out, allow_pickle=False, **arrays)


def load_starts(path: Path) -> StartFile:
    """Read a start file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another or a damaged file, or inconsistent arrays.
    """
    advice = "write the starts again with `v2w starts`"
    with reading(path, f"a start file at {path}", advice), open_arrays(path) as file:
        header = _read_header(file)
        found = {name: file.read(name) for name in ("frames", "actions", *TEXTS, *NUMBERS)}
        found["actions"] = as_numbers("actions", found["actions"], 3)
        _check(found)
    return StartFile(_to_starts(found), *(header[name] for name in HEADER))


def is_start_file(path: Path) -> bool:
    """Whether an .npz file is a start file; reads its small arrays only."""
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with open_arrays(path) as file:
            _read_header(file)
    except DAMAGED:
        return False
    return True


def _read_header(file: ArrayFile) -> Mapping[str, str]:
    header = file.read_json("header", FORMAT)
    if not all(isinstance(header.get(name), str) for name in HEADER):
        raise ValueError(f"`header` without the texts {', '.join(HEADER)}")
    return header


def _check(found: Mapping[str, NDArray[Any]]) -> None:
    """Check shapes and types of the arrays, whose meanings the module's docstring gives."""
    frames, actions = found["frames"], found["actions"]
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[4] != 3 or not frames.size:
        raise ValueError(f"`frames` {frames.shape} of {frames.dtype}, not uint8 (N, K, H, W, 3)")
    if actions.shape[:2] != (len(frames), frames.shape[1] - 1):
        raise ValueError(f"`actions` {actions.shape} for `frames` {frames.shape}")
    for names, kind in ((TEXTS, "U"), (NUMBERS, "i")):
        for name in names:
            array = found[name]
            if array.dtype.kind != kind or array.shape != frames.shape[:1]:
                raise ValueError(
                    f"`{name}` {array.shape} of {array.dtype} for {len(frames)} starts"
                )
    if len(set(found["ids"].tolist())) != len(frames):
        raise ValueError("`ids` that name an episode twice")


def _to_starts(found: Mapping[str, NDArray[Any]]) -> list[Start]:
    rows = zip(*(found[name] for name in ("frames", "actions")), strict=True)
    texts = zip(*(found[name].tolist() for name in TEXTS), strict=True)
    numbers = zip(*(found[name].tolist() for name in NUMBERS), strict=True)
    return [
        Start(
            *(name, frames, actions, step, length),
            instruction=instruction or None,
            task=task or None,
            seed=None if seed == NO_SEED else seed,
        )
        for (frames, actions), (name, instruction, task), (step, length, seed) in zip(
            rows, texts, numbers, strict=True
        )
    ]
