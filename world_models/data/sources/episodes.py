"""This project's own episodes, which `v2w collect` writes; see `labelled`."""

from pathlib import Path

import numpy as np

from v2w_gym.world_models.data.decoding.array_frames import actions_of, archived_frames
from v2w_gym.world_models.data.decoding.arrays import ArrayFile
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.labelled import read_meta


def read_own(path: Path, file: ArrayFile, name: str) -> Episode:
    """Return the episode of an open file, with `name` as its id.

    Raises:
        One of `DAMAGED`: Inconsistent arrays.
    """
    meta = read_meta(file)
    frames = archived_frames(path, file, "frames")
    success = file.read("success") if "success" in file.names else None
    if success is not None and (success.dtype != np.bool_ or success.shape != (len(frames),)):
        raise ValueError(f"`success` {success.shape} of {success.dtype}, not bool ({len(frames)},)")
    return Episode(
        id=name,
        frames=frames,
        actions=actions_of(file, "actions", frames, last=False),
        instruction=meta["instruction"],
        robot=meta["robot"],
        task=meta["task"],
        success=success,
    )
