"""Starts: what is bundled, what is read from files, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from v2w_gym.starts import (
    BUNDLED,
    FIRST_SEED,
    Start,
    bundled_starts,
    load_start,
    load_starts,
    record_starts,
    save_starts,
)
from v2w_gym.tasks import TASKS
from world_models.data.episodes import Episode, save_episode

FRAME = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.mark.parametrize("task", TASKS)
def test_sixty_different_starts_are_bundled_per_task(task):
    starts = bundled_starts(task)
    assert [start.seed for start in starts] == list(range(2_000_000, 2_000_060))
    assert {start.task for start in starts} == {task}
    assert {(start.frame.shape, start.frame.dtype.name) for start in starts} == {
        ((64, 64, 3), "uint8")
    }
    assert len({start.frame.tobytes() for start in starts}) == 60


def test_the_bundle_is_small():
    assert BUNDLED.stat().st_size < 1_000_000


def test_round_trip(tmp_path):
    save_starts(tmp_path / "some.npz", [Start("a", 3, FRAME), Start("b", 2**40, 255 - FRAME)])
    assert [path.name for path in tmp_path.iterdir()] == ["some.npz"]
    first, second = load_starts(tmp_path / "some.npz")
    assert (first.task, first.seed, second.task, second.seed) == ("a", 3, "b", 2**40)
    np.testing.assert_array_equal(second.frame, 255 - FRAME)


def test_recording_repeats_the_bundle(tmp_path, metaworld):
    record_starts(tmp_path / "again.npz", 1)
    for start in load_starts(tmp_path / "again.npz"):
        bundled = bundled_starts(start.task)[0]
        assert start.seed == bundled.seed == FIRST_SEED
        difference = np.abs(start.frame.astype(int) - bundled.frame)
        assert difference.mean() < 0.5  # another graphics driver may round differently


def test_start_from_the_bundle():
    frame = bundled_starts("open_drawer")[59].frame
    np.testing.assert_array_equal(load_start(59, "open_drawer"), frame)


def test_start_from_files(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "start.png")
    Image.fromarray(np.full_like(FRAME, 100)).save(tmp_path / "start.JPG", quality=95)
    np.save(tmp_path / "start.npy", FRAME)
    save_episode(
        tmp_path / "episode.npz",
        Episode(
            frames=np.stack([FRAME, 255 - FRAME]),
            actions=np.zeros((1, 13), np.float32),
            expert_actions=np.zeros((1, 13), np.float32),
            success=np.zeros(2, bool),
            robot="standin_sawyer",
            task="close_drawer",
            instruction="close the drawer",
            behaviour="expert",
            seed=0,
        ),
    )
    for name in ("start.png", "start.npy", "episode.npz"):
        np.testing.assert_array_equal(load_start(str(tmp_path / name), "close_drawer"), FRAME)
    assert np.abs(load_start(str(tmp_path / "start.JPG"), "close_drawer") - 100.0).max() <= 2


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("strat.png", FileNotFoundError, "did you mean 'start.png'"),
        ("start.gif", ValueError, "file type"),
        ("start.png", ValueError, "cannot identify image"),
        ("start.npy", ValueError, "start.npy, found"),
        ("start.npz", ValueError, "start.npz, found"),
    ],
)
def test_files_that_are_no_starts(tmp_path, name, error, text):
    for kind in ("png", "npy", "npz", "gif"):
        (tmp_path / f"start.{kind}").write_bytes(b"nothing of the kind")
    with pytest.raises(error, match=text):
        load_start(str(tmp_path / name), "close_drawer")


def test_unknown_task():
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        bundled_starts("open_drawr")
