"""CS:GO recordings, as DIAMOND arranges them: `full_res/<a>-<b>/hdf5_dm_july2021_<n>.hdf5`.

A file holds 1,000 frames `frame_<i>_x` (150, 280, 3) uint8 in BGR, and `frame_<i>_y`, the 51 values
that the player chose at frame i. They lead to frame i + 1, so the last ones are dropped.

Source: `src/data/dataset.py` in the branch csgo of DIAMOND. Its denoiser is given frames i to
i + n - 1 and the values of the same numbers, and predicts frame i + n.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import CSGO_PLAYER
from v2w_gym.world_models.data.decoding.array_frames import check_frames
from v2w_gym.world_models.data.decoding.arrays import LARGEST, as_numbers, reading
from v2w_gym.world_models.data.episode import Episode, Steps, rows_of
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.episode_files import (
    ALL,
    EpisodeFiles,
    open_files,
    parse_split,
    refuse_fields,
)
from v2w_gym.world_models.data.sources.listing import files_below

log = logging.getLogger(__name__)

ENDING = ".hdf5"
NAMED = "hdf5_*.hdf5"
SPLIT_FILE = "test_split.txt"
"""DIAMOND's list of test files, one name a line; all other files are for training."""
_FRAME = re.compile(r"frame_(\d+)_x")

TEST_FILES = 500
LAST_START = 984
"""Published starts lie below this frame, so that 16 frames follow."""
STARTS_SEED = 42
CONTEXT = 4
"""Frames of a published clip that a model is given."""


def recognises(path: Path) -> bool:
    """Whether a path is an HDF5 file, or a folder of recordings."""
    if path.is_file():
        return path.suffix.lower() == ENDING
    return next(_recordings_below(path), None) is not None


def open_csgo(path: Path, wanted: Wanted) -> EpisodeFiles:
    """Open a recording, or all below a folder in the order of their full paths.

    Splits are "test", the files in `SPLIT_FILE`, and "train", the others.

    Raises:
        FileNotFoundError: No `SPLIT_FILE` in or beside the folder for such a split.
        ModuleNotFoundError: h5py is not installed.
        ValueError: As for `open_files`, or fields or a camera, which such files do not have.
    """
    _import_h5py()
    refuse_fields(wanted, path)
    files = [path] if path.is_file() else sorted(_recordings_below(path), key=str)
    named = parse_split(wanted.split, path)[0] != ALL
    splits = _read_splits(path, files) if named else {}
    return open_files(path, files, wanted, read_csgo, splits=splits)


def read_csgo(path: Path, name: str) -> Episode:
    """Return a recording, with `name` as its id.

    Raises:
        ValueError: Another or a damaged file.
    """
    with _opened(path) as file:
        frames = CsgoFrames(path, _count_frames(file))
        _read_frame(file, 0)
        rows = [_take(file, f"frame_{step}_y") for step in range(len(frames) - 1)]
        actions = as_numbers("frame_<i>_y", np.stack(rows), 2) if rows else None
    return Episode(name, frames, actions, rate=CSGO_PLAYER.control_hz, robot=CSGO_PLAYER.name)


@dataclass(frozen=True)
class CsgoFrames:
    """Frames of a recording; see `Frames`.

    Attributes:
        path: The file.
        length: Number of frames.
    """

    path: Path
    length: int

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.length

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return some frames; see `Frames`."""
        rows = rows_of(steps, self.length)
        with _opened(self.path) as file:
            frames = [_read_frame(file, int(row)) for row in rows]
            if len({frame.shape for frame in frames}) > 1:
                raise ValueError(f"frames of several sizes, {sorted({f.shape for f in frames})}")
            return np.stack(frames) if frames else _read_frame(file, 0)[None][:0]


def published_starts(ids: Sequence[str]) -> list[tuple[str, int]]:
    """Return the recording and the first frame of each of Vid2World's test clips, in their order.

    A clip has 16 frames, of which a model is given `CONTEXT`.

    Args:
        ids: Ids of the split "test" of a whole folder `full_res`, in any order.

    Raises:
        ValueError: Another number of recordings.

    Source: the start indices that the official evaluation loads.
    """
    if len(ids) != TEST_FILES:
        raise ValueError(
            f"expected the {TEST_FILES} test files of CS:GO, as in full_res:test, found {len(ids)}"
        )
    starts = np.random.RandomState(STARTS_SEED).randint(0, LAST_START, TEST_FILES)
    return [(name, int(start)) for name, start in zip(sorted(ids), starts, strict=True)]


def _recordings_below(folder: Path) -> Iterator[Path]:
    return (path for path in files_below(folder, ENDING) if path.match(NAMED))


def _read_splits(path: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    lists = [folder / SPLIT_FILE for folder in (path, path.parent)]
    found = next((file for file in lists if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"expected DIAMOND's {SPLIT_FILE} in or beside {path}, found none; copy it there from "
            "the branch csgo of DIAMOND"
        )
    names = set(found.read_text(encoding="utf-8", errors="replace").split())
    test = [file for file in files if file.name in names]
    if absent := len(names) - len({file.name for file in test}):
        log.warning("%d of %d files in %s are not below %s", absent, len(names), found, path)
    return {"test": test, "train": [file for file in files if file.name not in names]}


def _count_frames(file: Any) -> int:
    steps = {int(match[1]) for name in file if (match := _FRAME.fullmatch(str(name)))}
    length = next(step for step in count() if step not in steps)
    if length < max(len(steps), 1):
        raise ValueError(
            f"no frame_{length}_x among {len(file)} arrays, such as {next(iter(file), None)!r}"
        )
    return length


def _read_frame(file: Any, step: int) -> NDArray[np.uint8]:
    stored = _take(file, f"frame_{step}_x")
    check_frames((1, *stored.shape), stored.dtype)
    return np.ascontiguousarray(stored[..., ::-1])  # BGR to RGB


def _take(file: Any, name: str) -> NDArray[Any]:
    """Return an array; its header may claim any size."""
    stored = file[name]
    if not isinstance(stored, _import_h5py().Dataset) or stored.shape is None:
        raise ValueError(f"{name} that is no array")
    if stored.nbytes > LARGEST:
        raise ValueError(f"{name} of {stored.nbytes / 2**30:,.1f} GiB, more than a frame")
    return np.asarray(stored[()])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file; errors become one line."""
    with reading(path, f"a CS:GO recording at {path}"), _import_h5py().File(path, "r") as file:
        yield file


def _import_h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"expected h5py to read HDF5 files, found no module {error.name!r}; "
            "run: pip install '.[hdf5]'",
            name=error.name,
        ) from error
    return h5py
