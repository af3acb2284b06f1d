"""Episodes on disk: what is written is read, and what is damaged is refused."""

from dataclasses import fields, replace

import numpy as np
import pytest

from v2w_gym.world_models.data.labelled import (
    LabelledEpisode,
    list_labelled,
    load_labelled,
    save_labelled,
)


@pytest.fixture
def episode():
    rng = np.random.default_rng(0)
    return LabelledEpisode(
        frames=rng.integers(0, 256, (4, 8, 8, 3), np.uint8),
        actions=rng.normal(size=(3, 13)).astype(np.float32),
        expert_actions=rng.normal(size=(3, 13)).astype(np.float32),
        success=np.array([False, False, True, True]),
        robot="standin_sawyer",
        task="close_drawer",
        instruction="close the drawer",
        behaviour="expert",
        seed=2**40,
        state={"hand": rng.normal(size=(4, 3)).astype(np.float32)},
    )


def test_round_trip(tmp_path, episode):
    path = tmp_path / "episode_1.npz"
    save_labelled(path, episode)
    found = load_labelled(path)
    for field in fields(LabelledEpisode):
        one, two = getattr(episode, field.name), getattr(found, field.name)
        if isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype
        elif field.name != "state":
            assert one == two
    np.testing.assert_array_equal(found.state["hand"], episode.state["hand"])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_truncated_file(tmp_path, episode, kept):
    path = tmp_path / "episode_1.npz"
    save_labelled(path, episode)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ValueError, match="episode_1.npz.*record it again"):
        load_labelled(path)


def test_another_npz_file(tmp_path):
    np.savez(tmp_path / "other.npz", frames=np.zeros(3))
    with pytest.raises(ValueError, match="v2w-episode-1 file at"):
        load_labelled(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("actions", np.zeros((4, 13), np.float32), r"'actions': \(4, 3\)"),
        ("expert_actions", np.zeros((2, 13), np.float32), r"'expert_actions': \(2, 3\)"),
        ("success", np.zeros(3, bool), r"'success': \(3, 4\)"),
        ("state", {"hand": np.zeros((3, 3), np.float32)}, r"'state/hand': \(3, 4\)"),
        ("frames", np.zeros((4, 8, 8, 3), np.float32), "found float32 .*not uint8 frames"),
        ("frames", np.zeros((4, 8, 8), np.uint8), r"found uint8 \(4, 8, 8\), not uint8 frames"),
        ("actions", np.full((3, 13), np.nan, np.float32), "finite actions"),
        ("actions", np.full((3, 13), 1e300), "finite actions"),
        ("actions", np.full((3, 13), "a"), r"`actions` \(3, 13\) of <U1, not numbers"),
        ("actions", np.zeros((3, 7), np.float32), "of different sizes"),
        ("success", np.zeros(4), r"`success` \(4,\) of float64, not bool"),
        ("success", np.array(True), r"`success` \(\) of bool"),
        ("state", {"hand": np.full((4, 3), np.nan, np.float32)}, "`state/hand`.*not finite"),
        ("state", {"hand": np.array(1.0)}, r"`state/hand` \(\)"),
        ("robot", ["standin_sawyer"], "a list as robot, not str"),
        ("frames", np.zeros((4, 8, 8, 3), np.int64), "found int64 .*not uint8 frames"),
    ],
)
def test_parts_that_contradict_each_other(tmp_path, episode, name, value, text):
    path = tmp_path / "episode_1.npz"
    save_labelled(path, replace(episode, **{name: value}))
    with pytest.raises(ValueError, match=text):
        load_labelled(path)


def test_list_labelled(tmp_path, episode):
    for name in ("b/episode_2.npz", "a/episode_3.npz", "a/episode_1.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_labelled(tmp_path / name, episode)
    names = [path.name for path in list_labelled([tmp_path / "b", str(tmp_path / "a")])]
    assert names == ["episode_2.npz", "episode_1.npz", "episode_3.npz"]
    (tmp_path / "c").mkdir()
    with pytest.raises(FileNotFoundError, match="v2w collect"):
        list_labelled([tmp_path / "a", tmp_path / "c"])


def test_a_recording_without_labels_is_no_episode_and_nothing_is_to_be_deleted(tmp_path):
    frames, actions = np.zeros((4, 8, 8, 3), np.uint8), np.zeros((4, 13))
    np.savez(tmp_path / "train_eps_00000000.npz", image=frames, action=actions)
    with pytest.raises(ValueError, match="train_eps_.*, found .*without instruction") as refused:
        load_labelled(tmp_path / "train_eps_00000000.npz")
    assert "delete" not in str(refused.value) and "again" not in str(refused.value)


def test_an_episode_may_be_named_itself(tmp_path, episode):
    save_labelled(tmp_path / "episode_1.npz", episode)
    assert list_labelled([tmp_path / "episode_1.npz"]) == [tmp_path / "episode_1.npz"]
