"""Batches of clips: the same with any number of processes and ranks, and after any resume."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.clips import AugmentationConfig
from v2w_gym.configs.model import GeometryConfig
from v2w_gym.world_models.data.clip_batches import ClipBatch, FrameReader, load_batches
from v2w_gym.world_models.data.clip_order import ClipPlace, TrainingOrder

LENGTHS = np.array([9, 4, 30, 3, 5, 12])
CLIP = 4


@dataclass(frozen=True)
class Memory:
    """Episodes in memory: pixel values and actions count the steps of an episode."""

    lengths: np.ndarray = field(default_factory=lambda: LENGTHS)

    def frames(self, episode, start, stop):
        values = np.arange(start, stop) + 40 * episode
        noise = np.random.default_rng(episode).integers(0, 40, (stop - start, 8, 10, 3))
        return (values[:, None, None, None] % 200 + noise).astype(np.uint8)

    def actions(self, episode, start, stop):
        return np.stack([np.arange(start, stop), np.full(stop - start, episode)], 1).astype("f4")


@dataclass(frozen=True)
class Damaged(Memory):
    """One picture cannot be read."""

    def frames(self, episode, start, stop):
        if episode == 2:
            raise ValueError("expected a picture in part-3.parquet (episode two), found none")
        return super().frames(episode, start, stop)


@dataclass(frozen=True)
class Deadly(Memory):
    """One episode kills the process that reads it, as the system does when memory runs out."""

    def frames(self, episode, start, stop):
        if episode == 2 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frames(episode, start, stop)


READER = FrameReader(Memory(), CLIP, augmentation=AugmentationConfig())


def train(steps, size=4, workers=0, rank=0, ranks=1, reader=READER, seed=0):
    """Return the batches of some steps."""
    order = TrainingOrder(LENGTHS, CLIP, seed)
    wanted = (order.batch(step, size, rank, ranks) for step in steps)
    with load_batches(reader, wanted, workers) as batches:
        return list(batches)


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("frames", "actions", "episodes", "starts"):
            pair = getattr(one, name), getattr(other, name)
            torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True)


def test_a_batch_is_frames_and_the_actions_that_led_to_them():
    places = (ClipPlace(2, 7, (0,)), ClipPlace(4, 0, (1,)))
    batch = FrameReader(Memory(), CLIP)(places)
    assert batch.frames.shape == (2, CLIP, 3, 8, 10) and batch.frames.dtype == torch.uint8
    expected = Memory().frames(2, 7, 11)
    np.testing.assert_array_equal(batch.frames[0].movedim(1, -1).numpy(), expected)
    # clip 0 begins within its episode, so action 6 led to its first frame
    assert batch.actions[0].tolist() == [[6, 2], [7, 2], [8, 2], [9, 2]]
    assert batch.actions[1, 0].isnan().all()
    assert batch.actions[1, 1:].tolist() == [[0, 4], [1, 4], [2, 4]]
    assert (batch.episodes.tolist(), batch.starts.tolist()) == ([2, 4], [7, 0])


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_changes_nothing(workers):
    assert_equal(train(range(6), workers=workers), train(range(6)))


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batch_of_one(ranks):
    whole, shares = train(range(3)), [train(range(3), rank=r, ranks=ranks) for r in range(ranks)]
    joined = [
        ClipBatch(*(torch.cat([getattr(b, n) for b in parts]) for n in ClipBatch.__annotations__))
        for parts in zip(*shares, strict=True)
    ]
    assert_equal(joined, whole)


def test_a_resume_goes_on_exactly_and_another_seed_differs():
    whole = train(range(6))
    assert_equal(train(range(4, 6), workers=2), whole[4:])
    other = train(range(6), seed=1)
    assert any(not torch.equal(a.episodes, b.episodes) for a, b in zip(whole, other, strict=True))


def test_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    one = train(range(2), workers=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    torch.manual_seed(2)
    assert_equal(train(range(2), workers=1), one)


def test_augmentation_is_that_of_the_canvas_and_one_for_a_clip():
    geometry = GeometryConfig(resized=(16, 20), canvas=(16, 32))
    still = replace(READER, augmentation=None, geometry=geometry)
    (plain,), (changed,) = (
        train(range(1), reader=r) for r in (still, replace(READER, geometry=geometry))
    )
    assert plain.frames.shape == changed.frames.shape == (4, CLIP, 3, 16, 32)
    assert not plain.frames[..., :6].any() and not plain.frames[..., -6:].any()
    assert (plain.frames != changed.frames).any()


def test_a_reader_travels_to_another_process():
    copy = pickle.loads(pickle.dumps(READER))
    places = (ClipPlace(2, 7, (0,)),)
    assert_equal([copy(places)], [READER(places)])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_ends_in_the_line_that_names_it(workers):
    with pytest.raises(ValueError, match=r"^expected a picture in part-3.*found none$"):
        train(range(4), workers=workers, reader=FrameReader(Damaged(), CLIP))
    assert not multiprocessing.active_children()


def test_a_killed_process_is_an_error_and_no_hang():
    began = time.monotonic()
    with pytest.raises(ChildProcessError, match="2 processes to read clips, found .* was killed"):
        train(range(8), workers=2, reader=FrameReader(Deadly(), CLIP))
    assert time.monotonic() - began < 20
    assert not multiprocessing.active_children()


def test_processes_end_with_the_block():
    with load_batches(READER, iter([(ClipPlace(0, 0, (0,)),)] * 50), 2) as batches:
        next(batches)
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_an_error_of_the_training_itself_passes_through():
    with (
        pytest.raises(RuntimeError, match="out of memory"),
        load_batches(READER, [(ClipPlace(0, 0, (0,)),)], 1) as batches,
    ):
        next(batches)
        raise RuntimeError("out of memory")


INTERRUPTED = """
import itertools, sys
sys.path.insert(0, {here!r})
from test_clip_batches import *

wanted = itertools.repeat((ClipPlace(2, 0, (0,)),))
try:
    with load_batches(READER, wanted, 2) as batches:
        for batch in batches:
            print("batch", flush=True)
except KeyboardInterrupt:
    assert not multiprocessing.active_children()
    print("interrupted", flush=True)
"""


def test_an_interrupt_of_all_processes_leaves_none_and_prints_nothing():
    code = INTERRUPTED.format(here=os.path.dirname(__file__))
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert run.stdout.readline() == "batch\n"
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert out.endswith("interrupted\n") and err == "" and run.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)
