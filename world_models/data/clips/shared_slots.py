"""Memory that processes share: one slot for each batch, used again and again.

New memory is slow, since the system clears every page when it is first touched. So a batch is
written to a slot, which is free again when no tensor shows the batch any more.
"""

import math
import shutil
import weakref
from collections import deque
from pathlib import Path

import torch
from torch import Tensor

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps shared memory; containers often limit it to 64 MiB."""


class SharedSlots:
    """Slots of shared memory for arrays of one shape.

    Attributes:
        tensors: The memory of each slot, for the process that writes to it.
    """

    def __init__(self, count: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Allocate the slots.

        Raises:
            OSError: There is less shared memory than that.
        """
        _check_room(count * math.prod(shape) * dtype.itemsize)
        self.tensors = [torch.empty(shape, dtype=dtype).share_memory_() for _ in range(count)]
        self._free = deque(range(count))

    def take(self, process: int, processes: int) -> int | None:
        """Return the number of a free slot, which is taken from now on; None if none is free.

        Each process gets the slots that it has written before, as far as they are free, since the
        first write of a process to a slot is slow, too.
        """
        if not self._free:
            return None
        own = (slot for slot in self._free if slot % processes == process)
        slot = next(own, self._free[0])
        self._free.remove(slot)
        return slot

    def lend(self, slot: int) -> Tensor:
        """Return the content of a taken slot.

        The slot is free again when this tensor and all views of it are gone: PyTorch holds the
        array until then.
        """
        array = self.tensors[slot].numpy()
        weakref.finalize(array, self._free.append, slot).atexit = False
        return torch.from_numpy(array)


def _check_room(wanted: int) -> None:
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else wanted
    if free < wanted:
        raise OSError(
            f"expected {wanted / 2**20:,.0f} MiB of shared memory for batches to read ahead, found "
            f"{free / 2**20:,.0f} MiB in {SHARED_MEMORY}; give the container more (docker run "
            "--shm-size=...), or lower workers or batch_size"
        )
