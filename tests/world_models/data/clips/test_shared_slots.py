"""Slots of shared memory: who gets which, and when one is free again."""

import pytest
import torch

from v2w_gym.world_models.data.clips import shared_slots
from v2w_gym.world_models.data.clips.shared_slots import SharedSlots


def test_each_process_gets_its_own_slots_first_then_any() -> None:
    slots = SharedSlots(5, (3,), torch.uint8)
    assert [slots.take(0, 2) for _ in range(3)] == [0, 2, 4]
    assert [slots.take(0, 2), slots.take(0, 2), slots.take(0, 2)] == [1, 3, None]


def test_a_slot_is_free_again_when_nothing_shows_it() -> None:
    slots = SharedSlots(1, (3,), torch.uint8)
    number = slots.take(0, 1)
    assert number == 0
    slots.tensors[number][:] = torch.tensor([1, 2, 3])
    lent = slots.lend(number)
    part = lent[1:].unsqueeze(0).numpy()
    assert slots.take(0, 1) is None
    del lent
    assert slots.take(0, 1) is None and part.tolist() == [[2, 3]]
    del part
    assert slots.take(0, 1) == 0


def test_slots_are_shared_memory_of_which_there_must_be_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert all(tensor.is_shared() for tensor in SharedSlots(2, (3,), torch.float16).tensors)
    usage = shared_slots.shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr(shared_slots.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(
        OSError, match=r"expected 2 MiB of shared memory .* found 1 MiB in /dev/shm"
    ):
        SharedSlots(2, (2**20,), torch.uint8)
