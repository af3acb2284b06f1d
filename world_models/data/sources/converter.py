"""Files of Vid2World's converter for RT-1's demonstrations: `train_eps_00000000.npz`.

`image` (T, H, W, 3) holds the frames, and `action` (T, A) the action that is taken at each of them.
The last action leads to no frame and is dropped.
"""

from pathlib import Path

from v2w_gym.world_models.data.decoding.array_frames import actions_of, archived_frames
from v2w_gym.world_models.data.decoding.arrays import ArrayFile
from v2w_gym.world_models.data.episode import Episode

NAMED = "train_eps_*.npz"
FRAMES, ACTIONS = "image", "action"


def is_converted(file: ArrayFile) -> bool:
    """Whether an open file has the converter's frames."""
    return FRAMES in file.names


def read_converted(path: Path, file: ArrayFile, name: str) -> Episode:
    """Return the episode of an open file, with `name` as its id; it may have no actions.

    Raises:
        One of `DAMAGED`: Inconsistent arrays.
    """
    frames = archived_frames(path, file, FRAMES)
    has_actions = ACTIONS in file.names
    actions = actions_of(file, ACTIONS, frames, last=True) if has_actions else None
    return Episode(name, frames, actions)
