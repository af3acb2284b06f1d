"""Training sets: whoever recorded them, they are read alike, and another robot's are named."""

import logging

import numpy as np
import pytest
from PIL import Image

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.world_models.data.clips.episode_set import load_episode_set
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.data.sources.opening import open_sources

RNG = np.random.default_rng(0)


def write(path, steps=4, size=(64, 64), actions=None, robot="standin_sawyer"):
    """Save an episode of ours, and return its frames and actions."""
    frames = RNG.integers(0, 256, (steps + 1, *size, 3), np.uint8)
    if actions is None:
        actions = np.tile(STANDIN_SAWYER.make_action(), (steps, 1))
    path.parent.mkdir(exist_ok=True, parents=True)
    meta = ("standin_sawyer", "close_drawer", "close the drawer", "expert", 0)
    save_labelled(
        path, LabelledEpisode(frames, actions, actions, np.zeros(steps + 1, bool), robot, *meta[1:])
    )
    return frames, actions


def write_converted(path, steps=4, size=(64, 64)):
    """Save what Vid2World's converter would."""
    frames = RNG.integers(0, 256, (steps + 1, *size, 3), np.uint8)
    actions = np.tile(STANDIN_SAWYER.make_action(), (steps + 1, 1)).astype(np.float64)
    path.parent.mkdir(exist_ok=True, parents=True)
    np.savez_compressed(path, image=frames, action=actions)
    return frames, actions[:-1]


def test_both_layouts_become_one_set(tmp_path):
    one = write(tmp_path / "a" / "episode_000000.npz", 3)
    two = write_converted(tmp_path / "a" / "train_eps_00000000.npz", 5)
    three = write_converted(tmp_path / "b" / "own name #1=x.npz", 1)
    data = load_episode_set(
        open_sources([str(tmp_path / "a"), str(tmp_path / "b")]), STANDIN_SAWYER
    )
    assert data.starts.tolist() == [0, 4, 10] and data.ends.tolist() == [4, 10, 12]
    np.testing.assert_array_equal(data.frames, np.concatenate([one[0], two[0], three[0]]))
    unknown = np.full((1, 13), np.nan)
    parts = [unknown, one[1], unknown, two[1], unknown, three[1]]
    np.testing.assert_array_equal(data.actions, np.concatenate(parts).astype(np.float32))


def test_any_recorded_data_teaches(tmp_path):
    """Pictures with actions beside them, and one split of a folder."""
    frames = RNG.integers(0, 256, (12, 64, 64, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "pictures" / f"{i}.png")
    np.save(tmp_path / "pictures.npy", np.tile(STANDIN_SAWYER.make_action(), (12, 1)))
    one = write_converted(tmp_path / "a" / "train_eps_00000000.npz", 3)
    write_converted(tmp_path / "a" / "train_eps_00000001.npz", 3)
    sources = [str(tmp_path / "pictures"), f"{tmp_path / 'a'}:all[:1]"]
    data = load_episode_set(open_sources(sources), STANDIN_SAWYER)
    assert data.ends.tolist() == [12, 16]
    np.testing.assert_array_equal(data.frames, np.concatenate([frames, one[0]]))


def test_files_that_are_no_episodes_are_named(tmp_path, caplog):
    write(tmp_path / "episode_000000.npz")
    np.savez(tmp_path / "statistics.npz", mean=np.zeros(3))
    assert len(load_episode_set(open_sources([str(tmp_path)]), STANDIN_SAWYER).starts) == 1
    assert "1 .npz files" in caplog.text and "statistics.npz" in caplog.text


def test_a_folder_without_episodes_says_what_is_there_instead(tmp_path):
    for name in ("a.bag", "b.bag", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"in a known format .*, found 2 \.bag, 1 \.txt"):
        load_episode_set(open_sources([str(tmp_path)]), STANDIN_SAWYER)


def test_actions_are_those_that_the_robot_executes(tmp_path, caplog):
    jump = np.tile(STANDIN_SAWYER.make_action(), (4, 1))
    jump[0, 10] = 0.4
    write(tmp_path / "episode_000000.npz", actions=jump)
    write(tmp_path / "episode_000001.npz")
    with caplog.at_level(logging.WARNING):
        data = load_episode_set(open_sources([str(tmp_path)]), STANDIN_SAWYER)
    assert data.actions[1, 10] == np.float32(0.05)
    assert "1 of 104 values in 1 of 2 episodes were beyond" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"size": (32, 32)},
            "'standin_sawyer' in .*_000001 of .*: .*frames of 64 x 64 pixels .*, found 32 x 32",
        ),
        ({"size": (65, 64)}, "episode_000001 of .*, found 65 x 64"),
        ({"actions": np.zeros((4, 7))}, r"episode_000001 of .*shape \(4, 13\) .*, found \(4, 7\)"),
        ({"robot": "google_robot"}, "_000001 of .*'standin_sawyer', found one of 'google_robot'"),
        ({"robot": "?"}, r"_000001 of .*'standin_sawyer', found one of '\?'"),
    ],
)
def test_an_episode_of_another_robot_is_named(tmp_path, wrong, text):
    write(tmp_path / "episode_000000.npz")
    write(tmp_path / "episode_000001.npz", **wrong)
    with pytest.raises(ValueError, match=text):
        load_episode_set(open_sources([str(tmp_path)]), STANDIN_SAWYER)


def test_frames_alone_teach_no_actions(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="in a of .*: expected actions .*, found none"):
        load_episode_set(open_sources([str(tmp_path)]), STANDIN_SAWYER)


def test_more_frames_than_memory_holds(tmp_path, monkeypatch):
    write_converted(tmp_path / "a.npz", size=GOOGLE_ROBOT.frame_size)
    monkeypatch.setattr(Episode, "__len__", lambda episode: 10**15)
    with pytest.raises(ValueError, match=r"fit in memory, found 1,000,000,000,000,000 of \(256"):
        load_episode_set(open_sources([str(tmp_path)]), GOOGLE_ROBOT)
