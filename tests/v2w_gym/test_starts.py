"""Starts: what is bundled, what is read from files, and what is refused."""

import os

import numpy as np
import pytest
from PIL import Image

from v2w_gym import starts
from v2w_gym.configs.robots import CSGO_PLAYER, GOOGLE_ROBOT, RECON_JACKAL, STANDIN_SAWYER
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.starts import (
    BUNDLED,
    BUNDLED_ROBOT,
    FIRST_SEED,
    bundled_starts,
    draw_start,
    load_start,
    record_starts,
)
from v2w_gym.world_models.data.starts.files import load_starts


@pytest.mark.parametrize("task", tasks_of(BUNDLED_ROBOT))
def test_sixty_different_starts_are_bundled_per_task(task):
    starts = bundled_starts(task)
    assert [start.seed for start in starts] == list(range(2_000_000, 2_000_060))
    assert {start.task for start in starts} == {task}
    assert {(start.frame.shape, start.frame.dtype.name) for start in starts} == {
        ((64, 64, 3), "uint8")
    }
    assert len({start.sha256 for start in starts}) == 60
    assert {start.instruction for start in starts} == {None}  # tasks may share them


def test_the_bundle_is_small():
    assert BUNDLED.stat().st_size < 1_000_000


def test_recording_repeats_the_bundle(tmp_path, metaworld):
    record_starts(tmp_path / "again.npz", 1)
    for start in load_starts(tmp_path / "again.npz").starts:
        bundled = bundled_starts(start.task)[0]
        assert start.seed == bundled.seed == FIRST_SEED
        difference = np.abs(start.frame.astype(int) - bundled.frame)
        assert difference.mean() < 0.5  # another graphics driver may round differently


def test_a_bundled_start_is_one_frame_for_a_model_that_begins_with_one():
    context = load_start(59, "open_drawer", STANDIN_SAWYER, 1)
    np.testing.assert_array_equal(context.frames, bundled_starts("open_drawer")[59].frame[None])
    assert context.actions.shape == (0, 13)


def test_a_single_picture_is_held_while_the_robot_rests(tmp_path, frames_of):
    frame = frames_of(CSGO_PLAYER)[0]
    Image.fromarray(frame).save(tmp_path / "still.png")
    context = load_start(str(tmp_path / "still.png"), "play", CSGO_PLAYER, 4)
    np.testing.assert_array_equal(context.frames, np.stack([frame] * 4))
    np.testing.assert_array_equal(context.actions, np.stack([CSGO_PLAYER.make_action()] * 3))


def test_a_clip_begins_with_its_first_frames_and_unknown_actions(tmp_path, frames_of):
    frames = frames_of(RECON_JACKAL, 6)
    np.save(tmp_path / "clip.npy", frames)
    context = load_start(str(tmp_path / "clip.npy"), "drive", RECON_JACKAL, 4)
    np.testing.assert_array_equal(context.frames, frames[:4])
    assert context.actions.shape == (3, 3) and np.isnan(context.actions).all()


def test_an_episode_begins_with_its_actions_too(tmp_path, frames_of):
    frames = frames_of(GOOGLE_ROBOT, 5)
    actions = np.stack([GOOGLE_ROBOT.make_action(world_vector=t / 10) for t in range(5)])
    np.savez(tmp_path / "eps.npz", image=frames, action=actions)
    context = load_start(str(tmp_path / "eps.npz"), "open_drawer", GOOGLE_ROBOT, 3)
    np.testing.assert_array_equal(context.frames, frames[:3])
    np.testing.assert_array_equal(context.actions, actions[:2])


def test_a_short_clip_gives_what_it_has(tmp_path, frames_of):
    frames = frames_of(STANDIN_SAWYER, 2)
    np.save(tmp_path / "clip.npy", frames)
    context = load_start(str(tmp_path / "clip.npy"), "open_drawer", STANDIN_SAWYER, 4)
    np.testing.assert_array_equal(context.frames, frames)
    assert context.actions.shape == (1, 13)


def test_a_clip_without_frames_is_refused(tmp_path, frames_of):
    np.save(tmp_path / "clip.npy", frames_of(STANDIN_SAWYER, 2)[:0])
    with pytest.raises(ValueError, match=r"clip.npy, found .*T > 0"):
        load_start(str(tmp_path / "clip.npy"), "open_drawer", STANDIN_SAWYER, 4)


def test_frames_of_another_robot_are_refused(tmp_path, frames_of):
    np.save(tmp_path / "clip.npy", frames_of(STANDIN_SAWYER, 2))
    with pytest.raises(
        ValueError, match=r"clip.npy' does not fit: .*150, 280, 3\).*csgo.*found uint8 \(2, 64, 64"
    ):
        load_start(str(tmp_path / "clip.npy"), "play", CSGO_PLAYER, 4)


def test_actions_of_another_robot_are_refused(tmp_path, frames_of):
    np.savez(tmp_path / "eps.npz", image=frames_of(STANDIN_SAWYER, 3), action=np.zeros((3, 10)))
    with pytest.raises(ValueError, match=r"eps.npz' does not fit: .*found \(1, 1, 10\)"):
        load_start(str(tmp_path / "eps.npz"), "open_drawer", STANDIN_SAWYER, 2)


def test_actions_before_the_start_are_fitted_and_logged(tmp_path, frames_of, caplog):
    """The first is known and out of bounds, the second is not known at all."""
    actions = np.stack([STANDIN_SAWYER.make_action(world_vector=(0.4, 0, 0))] * 3)
    actions[1] = np.nan
    np.savez(tmp_path / "eps.npz", image=frames_of(STANDIN_SAWYER, 3), action=actions)
    context = load_start(str(tmp_path / "eps.npz"), "open_drawer", STANDIN_SAWYER, 3)
    moved = STANDIN_SAWYER.make_action(world_vector=(0.05, 0, 0))
    np.testing.assert_array_equal(context.actions, [moved, np.full(13, np.nan)])
    assert "1 of 13 values in 1 of 1 episodes were beyond" in caplog.text


def test_an_action_that_is_not_known_in_part_is_refused(tmp_path, frames_of):
    actions = np.tile(STANDIN_SAWYER.make_action(), (3, 1))
    actions[0, 10] = np.nan
    np.savez(tmp_path / "eps.npz", image=frames_of(STANDIN_SAWYER, 3), action=actions)
    with pytest.raises(ValueError, match=r"eps.npz do not fit: .*world_vector\[0\].*nan in row 0"):
        load_start(str(tmp_path / "eps.npz"), "open_drawer", STANDIN_SAWYER, 3)


def test_a_file_is_read_once_until_it_changes(tmp_path, frames_of, monkeypatch):
    path, read = tmp_path / "clip.npy", []
    known = starts.read_one
    monkeypatch.setattr(starts, "read_one", lambda *a, **k: read.append(1) or known(*a, **k))
    frames = frames_of(STANDIN_SAWYER, 2)
    np.save(path, frames)
    first, again = (load_start(path, "open_drawer", STANDIN_SAWYER, 2) for _ in range(2))
    assert len(read) == 1
    first.frames[:] = 0  # what a caller does to its own start leaves the others alone
    np.testing.assert_array_equal(again.frames, frames)
    np.save(path, frames[:1])
    os.utime(path, ns=(1, 1))
    assert len(load_start(path, "open_drawer", STANDIN_SAWYER, 2).frames) == 2
    assert len(read) == 2


@pytest.mark.parametrize("source", [True, np.True_, 1.5, None, [0]])
def test_a_start_is_a_number_or_a_path(source):
    with pytest.raises(ValueError, match="file or the number of a bundled start .* found"):
        load_start(source, "close_drawer", STANDIN_SAWYER, 1)


def test_a_start_in_the_home_folder(tmp_path, frames_of, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "clip.npy", frames_of(STANDIN_SAWYER, 2))
    assert len(load_start("~/clip.npy", "open_drawer", STANDIN_SAWYER, 2).frames) == 2


@pytest.mark.parametrize("index", [-1, 60])
def test_a_start_that_is_not_bundled(index):
    with pytest.raises(ValueError, match="from 0 to 59"):
        load_start(index, "close_drawer", STANDIN_SAWYER, 1)


@pytest.mark.parametrize(
    ("robot", "task"), [(GOOGLE_ROBOT, "open_drawer"), (CSGO_PLAYER, "play")], ids=str
)
def test_bundled_starts_show_the_stand_in_alone(robot, task):
    text = f"video or episode of robot {robot.name!r}, found 3; the bundled starts show 'standin"
    with pytest.raises(ValueError, match=text):
        load_start(3, task, robot, 1)
    with pytest.raises(ValueError, match="found None"):
        draw_start(task, robot, np.random.default_rng(0))


def test_a_start_is_for_a_task_of_the_robot(tmp_path, frames_of):
    np.save(tmp_path / "clip.npy", frames_of(CSGO_PLAYER, 2))
    with pytest.raises(ValueError, match=r"one of \['play'\].*found 'open_drawer'"):
        load_start(str(tmp_path / "clip.npy"), "open_drawer", CSGO_PLAYER, 1)


def test_unknown_task():
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        bundled_starts("open_drawr")
