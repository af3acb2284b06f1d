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

from tests.world_models.data.recorded import InMemory, make_episode
from v2w_gym.configs.clips import AugmentationConfig
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.model import GeometryConfig
from v2w_gym.configs.robots import STANDIN_SAWYER, RobotSpec
from v2w_gym.world_models.data.clips.batches import (
    AHEAD,
    IN_USE,
    ClipBatch,
    FrameReader,
    load_batches,
)
from v2w_gym.world_models.data.clips.order import ClipPlace, TrainingOrder
from v2w_gym.world_models.data.prepared import PreparedData
from v2w_gym.world_models.data.preparing.prepare import prepare_source

LENGTHS = np.array([9, 4, 30, 3, 5, 12])
CLIP = 4
ROBOT = replace(STANDIN_SAWYER, frame_size=(8, 10))


@dataclass(frozen=True)
class Memory:
    """Episodes in memory: brightness and the first action value count the steps of an episode."""

    robot: RobotSpec = ROBOT
    lengths: np.ndarray = field(default_factory=lambda: LENGTHS)

    def frames(self, episode, start, stop, out=None):
        noise = np.random.default_rng(episode).integers(0, 40, (8, 10, 3))
        found = np.arange(start, stop)[:, None, None, None] + 40 * episode + noise
        if out is None:
            return found.astype(np.uint8)
        out[:] = found
        return out

    def actions(self, episode, start, stop):
        actions = np.full((stop - start - 1, 13), episode, np.float32)
        actions[:, 0] = np.arange(start, stop - 1)
        return actions


@dataclass(frozen=True)
class Damaged(Memory):
    """One picture cannot be read."""

    def frames(self, episode, start, stop, out=None):
        if episode == 2:
            raise ValueError("expected a picture in part-3.parquet (episode two), found none")
        return super().frames(episode, start, stop, out)


@dataclass(frozen=True)
class Deadly(Memory):
    """One episode kills the process that reads it, as the system does when memory runs out."""

    def frames(self, episode, start, stop, out=None):
        if episode == 2 and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frames(episode, start, stop, out)


READER = FrameReader(Memory(), CLIP, augmentation=AugmentationConfig())


TENSORS = ("frames", "condition", "actions")


def train(steps, size=4, workers=0, rank=0, ranks=1, reader=READER, seed=0):
    """Return the batches of some steps."""
    order = TrainingOrder(LENGTHS, CLIP, seed)
    wanted = (order.batch(step, size, rank, ranks) for step in steps)
    with load_batches(reader, wanted, workers) as batches:
        return list(batches)


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.places == other.places
        for name in TENSORS:
            pair = getattr(one, name), getattr(other, name)
            torch.testing.assert_close(*pair, rtol=0, atol=0, equal_nan=True)


def read(reader, *places):
    with load_batches(reader, [places]) as batches:
        return next(batches)


def test_a_batch_is_frames_and_the_actions_that_led_to_them():
    batch = read(FrameReader(Memory(), CLIP), ClipPlace(2, 7, (0,)), ClipPlace(4, 0, (1,)))
    assert batch.frames.shape == (2, CLIP, 3, 8, 10) and batch.frames.dtype == torch.uint8
    expected = Memory().frames(2, 7, 11)
    np.testing.assert_array_equal(batch.frames[0].movedim(1, -1).numpy(), expected)
    # clip 0 begins within its episode, so action 6 led to its first frame
    assert batch.actions[0, :, :2].tolist() == [[6, 2], [7, 2], [8, 2], [9, 2]]
    assert batch.actions[1, 0].isnan().all()
    assert batch.actions[1, 1:, :2].tolist() == [[0, 4], [1, 4], [2, 4]]


def test_the_conditioning_frame_is_the_oldest_of_the_clip_or_the_first_of_the_episode():
    oldest = read(FrameReader(Memory(), CLIP), ClipPlace(2, 7, (0,)))
    assert torch.equal(oldest.condition, oldest.frames[:, 0])
    start = read(FrameReader(Memory(), CLIP, "start"), ClipPlace(2, 7, (0,)))
    assert torch.equal(start.frames, oldest.frames)
    expected = Memory().frames(2, 0, 1)[0]
    np.testing.assert_array_equal(start.condition[0].movedim(0, -1).numpy(), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_processes_changes_nothing(workers):
    assert_equal(train(range(6), workers=workers), train(range(6)))


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_share_the_batch_of_one(ranks):
    whole, shares = train(range(3)), [train(range(3), rank=r, ranks=ranks) for r in range(ranks)]
    joined = [
        ClipBatch(
            *(torch.cat([getattr(b, name) for b in parts]) for name in TENSORS),
            tuple(place for b in parts for place in b.places),
        )
        for parts in zip(*shares, strict=True)
    ]
    assert_equal(joined, whole)


def test_a_resume_goes_on_exactly_and_another_seed_differs():
    whole = train(range(6))
    assert_equal(train(range(4, 6), workers=2), whole[4:])
    other = train(range(6), seed=1)
    assert [batch.places for batch in other] != [batch.places for batch in whole]


def test_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train(range(2), workers=1)
    assert torch.equal(before, torch.get_rng_state())
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
    place = ClipPlace(2, 7, (0,))
    assert_equal([read(pickle.loads(pickle.dumps(READER)), place)], [read(READER, place)])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_stays_as_it_is_while_anything_of_it_is_held(workers):
    expected = [batch.frames.clone() for batch in train(range(20))]
    order = TrainingOrder(LENGTHS, CLIP, 0)
    with load_batches(READER, (order.batch(step, 4) for step in range(20)), workers) as batches:
        held = [batch.frames[:, 1:][0] for batch in batches]  # a view; the batch itself is gone
    for found, wanted in zip(held, expected, strict=True):
        assert torch.equal(found, wanted[0, 1:])


def test_memory_is_used_again_once_a_batch_is_gone():
    order, places = TrainingOrder(LENGTHS, CLIP, 0), set()
    with load_batches(READER, (order.batch(step, 4) for step in range(40)), 1) as batches:
        for batch in batches:
            places.add(batch.frames.data_ptr())
    assert len(places) <= 1 * AHEAD + IN_USE


def test_a_last_batch_may_be_smaller():
    places = TrainingOrder(LENGTHS, CLIP, 0).batch(0, 7)
    with load_batches(READER, [places[:3], places[3:6], places[6:]], 1) as batches:
        assert [len(batch.frames) for batch in batches] == [3, 3, 1]
    with load_batches(READER, [places[:1], places]) as batches:
        assert [len(batch.frames) for batch in batches] == [1, 7]
    with load_batches(READER, []) as batches:
        assert not list(batches)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here")
def test_pinned_batches_reach_a_gpu_unchanged():
    order = TrainingOrder(LENGTHS, CLIP, 0)
    wanted = [order.batch(step, 4) for step in range(20)]
    with load_batches(READER, wanted, 2, pin_memory=True) as batches:
        found = []
        for batch in batches:
            assert batch.frames.is_pinned()
            found.append(batch.frames.to("cuda", non_blocking=True))
    for one, other in zip(found, train(range(20)), strict=True):
        assert torch.equal(one.cpu(), other.frames)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_ends_in_the_line_that_names_it(workers):
    with pytest.raises(ValueError, match=r"^expected a picture in part-3.*found none$"):
        train(range(4), workers=workers, reader=FrameReader(Damaged(), CLIP))
    assert not multiprocessing.active_children()


@pytest.fixture
def prepared(tmp_path):
    """Return three prepared episodes, of which the second lies in a file of its own."""
    cfg = PrepareConfig(
        source=".", output=f"{tmp_path}/data", robot="standin_sawyer", workers=1, file_mb=0.3
    )
    return prepare_source(InMemory([make_episode(number, 40) for number in range(3)]), cfg)


def test_prepared_data_are_read_alike_in_any_process(prepared):
    order, reader = TrainingOrder(prepared.lengths, 16, 0), FrameReader(prepared, 16, "start")
    wanted = [order.batch(step, 2) for step in range(3)]
    with load_batches(reader, wanted) as here, load_batches(reader, wanted, 2) as there:
        batches = list(here)
        assert_equal(list(there), batches)
    for place, clip in zip(batches[0].places, batches[0].frames, strict=True):
        expected = make_episode(place.episode, 40).frames[place.start : place.start + 16]
        np.testing.assert_array_equal(clip.movedim(1, -1).numpy(), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_flipped_byte_of_prepared_data_names_file_and_episode(prepared, workers):
    file = prepared.files[1]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with (
        pytest.raises(ValueError, match=rf"^expected whole data in {file} \(episode episode 1\)"),
        load_batches(FrameReader(prepared, 40), [(ClipPlace(1, 0, ()),)], workers) as batches,
    ):
        next(batches)


def test_a_damaged_picture_of_prepared_data_names_file_and_episode(prepared, monkeypatch):
    torn = prepared.pictures(1, 0, 1)[0][:100]
    monkeypatch.setattr(PreparedData, "pictures", lambda *given: [torn])
    with (
        pytest.raises(ValueError, match=rf"in {prepared.files[1]} \(episode episode 1\), found a"),
        load_batches(FrameReader(prepared, 1), [(ClipPlace(1, 0, ()),)], 1) as batches,
    ):
        next(batches)


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
import itertools
from tests.world_models.data.clips.test_batches import *

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
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
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
