"""Names of RLDS episodes: those of published lists, or the ids of TFDS."""

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CYCLE, BLOCK = 16, 16
"""Files that TFDS reads in turn, and records that it takes from one, unless they are shuffled."""
PUBLISHED_IDS = {"fractal20220817_data": "{split}_eps_{number:08d}"}
"""Data set -> how published lists of held-out episodes name its episodes.

`number` counts the episodes as `as_dataset` of TFDS yields them unshuffled; see `interleave`.
Source: the converter and `val_file_list.json` of Vid2World.
"""


def list_ids(info: Any) -> dict[str, list[str]]:
    """Return the names of the records in each file: its name -> one name for each record.

    A data set in `PUBLISHED_IDS` has the published names, any other one the `tfds_id` of TFDS.

    Args:
        info: The dataset info of TFDS.
    """
    pattern = PUBLISHED_IDS.get(info.name)
    cycle = 1 if info.disable_shuffling else CYCLE
    found = {}
    for split in info.splits.values():
        files = [Path(path).name for path in split.filepaths]
        for file, numbers in zip(files, interleave(split.shard_lengths, cycle), strict=True):
            if pattern:
                found[file] = [pattern.format(split=split.name, number=n) for n in numbers]
            else:
                found[file] = [f"{file}__{record}" for record in range(len(numbers))]
    return found


def interleave(lengths: Sequence[int], cycle: int = CYCLE, block: int = BLOCK) -> list[list[int]]:
    """Return the position of every record in the order in which TFDS reads files unshuffled.

    TFDS keeps `cycle` files open and takes up to `block` records from each in turn. A file that
    ends within its turn, or has nothing left, gives its place in the cycle to the next file.

    Args:
        lengths: Number of records of each file.
        cycle: Files that are open at once.
        block: Records of a turn.

    Returns:
        One list for each file: the positions of its records.
    """
    positions: list[list[int]] = [[] for _ in lengths]
    waiting = deque(range(len(lengths)))
    opened: list[int | None] = [None] * cycle
    position = 0
    while position < sum(lengths):
        for place in range(cycle):
            if opened[place] is None and waiting:
                opened[place] = waiting.popleft()
            if (file := opened[place]) is None:
                continue
            turn = min(block, lengths[file] - len(positions[file]))
            positions[file] += range(position, position + turn)
            position += turn
            if turn < block:
                opened[place] = None
    return positions
