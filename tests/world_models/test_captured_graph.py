import copy
import gc
import weakref

import pytest
import torch

from v2w_gym.world_models.captured_graph import KEPT, RECORD_AFTER, Replay

ENOUGH = RECORD_AFTER["cpu"] + 2


class Line:
    """A function with weights, which counts how often Python runs it."""

    def __init__(self):
        self.weight, self.calls = torch.tensor([2.0]), 0
        self.replay = Replay(self.function)

    def function(self, inputs):
        self.calls += 1
        x, (offset,) = inputs
        return x * self.weight + offset, (x.flatten() * len(x),)

    def __call__(self, x, offset=1.0):
        return self.replay((x, (torch.tensor([offset]),)), self.weight.data_ptr())


@pytest.fixture
def line():
    return Line()


def test_a_recording_gives_the_same_bits(line):
    for seed in range(ENOUGH + 20):
        x = torch.randn(3, 2, generator=torch.Generator().manual_seed(seed))
        out, (flat,) = line(x, offset=float(seed))
        assert torch.equal(out, x * 2 + seed) and torch.equal(flat, x.flatten() * 3)
    assert line.calls == RECORD_AFTER["cpu"]  # the last of them is the one that is recorded


def test_other_shapes_are_not_mistaken_for_recorded_ones(line):
    for _ in range(ENOUGH):
        line(torch.ones(3, 2))
    calls = line.calls
    out, (flat,) = line(torch.ones(5, 2))
    assert out.shape == (5, 2) and torch.equal(flat, torch.full((10,), 5.0))
    assert line.calls == calls + 1


def test_weights_changed_in_place_and_replaced_weights_are_seen(line):
    for _ in range(ENOUGH):
        line(torch.ones(1, 1))
    line.weight.mul_(2)
    assert line(torch.ones(1, 1))[0] == 5
    line.weight = torch.tensor([7.0])
    assert line(torch.ones(1, 1))[0] == 8


def test_old_recordings_make_room(line):
    for size in range(KEPT["cpu"] + 3):
        for _ in range(ENOUGH):
            line(torch.ones(size + 1, 1))
    assert len(line.replay._recordings) == KEPT["cpu"]
    calls = line.calls
    line(torch.ones(KEPT["cpu"] + 3, 1))
    assert line.calls == calls


def test_what_made_room_must_be_asked_for_often_again(line):
    for size in range(KEPT["cpu"] + 1):
        for _ in range(ENOUGH):
            line(torch.ones(size + 1, 1))
    calls = line.calls
    for _ in range(RECORD_AFTER["cpu"] - 1):
        line(torch.ones(1, 1))
    assert line.calls == calls + RECORD_AFTER["cpu"] - 1


def test_what_a_recording_was_made_with_is_not_kept(line):
    example = torch.ones(4, 4)
    seen = weakref.ref(example)
    for _ in range(RECORD_AFTER["cpu"]):
        line(example)
    del example
    gc.collect()
    assert seen() is None


def test_a_copy_is_of_the_copied_weights(line):
    for _ in range(ENOUGH):
        line(torch.ones(1, 1))
    other = copy.deepcopy(line)
    other.weight.fill_(10)
    for _ in range(ENOUGH):
        assert other(torch.ones(1, 1))[0] == 11
    assert line(torch.ones(1, 1))[0] == 3


def test_inference_mode_and_normal_mode_may_alternate(line):
    for index in range(2 * ENOUGH):
        with torch.inference_mode(index % 2 == 0):
            assert line(torch.full((2, 1), float(index)))[0][0] == 2 * index + 1
