"""RECON trajectories: pictures, motions in the robot's axes, and the lists of test clips."""

import pickle

import numpy as np
import pytest
from PIL import Image

from v2w_gym.configs.robots import RECON_JACKAL
from v2w_gym.world_models.data.fit import fit_episode
from v2w_gym.world_models.data.sources.opening import open_source, read_one
from v2w_gym.world_models.data.sources.recon import actions_between

POSITION = np.array([[0.0, 0.0], [0.25, 0.0], [0.25, 0.25], [0.0, 0.25]])
YAW = np.array([0.0, np.pi / 2, 3.0, -3.0])


def write(folder, length=4, size=(48, 64), **data):
    """Write a trajectory as NoMaD does; frame i is i everywhere."""
    folder.mkdir(parents=True)
    for step in range(length):
        Image.fromarray(np.full((*size, 3), step, np.uint8)).save(folder / f"{step}.jpg")
    position = np.resize(POSITION, (length, 2))
    data = {"position": position, "yaw": np.resize(YAW, length), **data}
    (folder / "traj_data.pkl").write_bytes(pickle.dumps(data))
    return folder


def test_an_action_is_the_motion_in_the_robots_axes():
    """Ahead; to the left, which is ahead after a quarter turn; back, seen from nearly behind."""
    moved = actions_between(POSITION, YAW)
    np.testing.assert_allclose(moved[0], [0.25, 0, np.pi / 2], atol=1e-6)
    np.testing.assert_allclose(moved[1], [0.25, 0, 3 - np.pi / 2], atol=1e-6)
    np.testing.assert_allclose(
        moved[2], [-0.25 * np.cos(3), 0.25 * np.sin(3), 2 * np.pi - 6], atol=1e-6
    )
    left = actions_between(np.array([[0.0, 0], [0, 1]]), np.zeros(2))
    np.testing.assert_array_equal(left, [[0, 1, 0]])


def test_a_trajectory(tmp_path):
    write(tmp_path / "b", 12)
    write(tmp_path / "a", yaw=YAW[:, None])
    source = open_source(str(tmp_path))
    assert source.ids() == ("a", "b")
    assert [path.name for path in source.files][4:8] == ["3.jpg", "traj_data.pkl", "0.jpg", "1.jpg"]
    first, second = source.read()
    assert (first.robot, first.rate, len(first)) == ("recon_jackal", 4, 4)
    assert second.frames[:].mean((1, 2, 3)).round().tolist() == list(range(12))
    assert first.frames.encoded(2) == (tmp_path / "a" / "2.jpg").read_bytes()
    np.testing.assert_array_equal(first.actions, actions_between(POSITION, YAW))
    assert len(read_one(tmp_path / "a")) == 4


def test_actions_are_in_the_units_of_the_robot(tmp_path):
    write(tmp_path / "a", size=RECON_JACKAL.frame_size)
    fitted = fit_episode(read_one(tmp_path / "a"), RECON_JACKAL)
    np.testing.assert_allclose(fitted.actions, actions_between(POSITION, YAW))
    assert not str(fitted.misfits) and not fitted.at_rest


def test_a_list_of_trajectories_is_a_split(tmp_path):
    for name in "abc":
        write(tmp_path / name)
    (tmp_path / "traj_names.txt").write_text("c\na\n")
    assert open_source(f"{tmp_path}:traj_names.txt").ids() == ("c", "a")
    assert open_source(f"{tmp_path}:traj_names.txt[1:]").ids() == ("a",)
    (tmp_path / "traj_names.txt").write_text("c\nad\n")
    with pytest.raises(ValueError, match="1 of 2 missing, such as 'ad'; did you mean 'a'"):
        open_source(f"{tmp_path}:traj_names.txt")
    with pytest.raises(FileNotFoundError, match=r"names.txt in or beside .*, found none"):
        open_source(f"{tmp_path}:names.txt")


def test_published_clips_are_a_split(tmp_path):
    write(tmp_path / "a", 30)
    write(tmp_path / "b", 20)
    clips = [("b", np.int64(3), 0, 64), ("a", 10, 0, 64), ("b", 4, 0, 64)]
    (tmp_path / "time.pkl").write_bytes(pickle.dumps(clips))
    source = open_source(f"{tmp_path}:time.pkl")
    assert source.ids() == ("000_b_3", "001_a_10", "002_b_4") and len(source.files) == 52
    first, second = source.read(0, 2)
    assert len(first) == len(second) == 20
    assert second.frames[:].mean((1, 2, 3)).round().tolist() == list(range(7, 27))
    whole = read_one(tmp_path / "a").actions
    np.testing.assert_array_equal(second.actions, whole[7:26])
    with pytest.raises(ValueError, match="frames 1 to 20 of trajectory b, found 20"):
        next(source.read(2))
    assert len(read_one(f"{tmp_path}:time.pkl#1")) == 20


@pytest.mark.parametrize("content", [{"a": 1}, [], [("a",)], [(3, "a")], [("a", 3), None]])
def test_lists_that_name_no_clips(tmp_path, content):
    write(tmp_path / "a")
    (tmp_path / "time.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"time.pkl, found no list of tuples \(trajectory, time"):
        open_source(f"{tmp_path}:time.pkl")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"position": POSITION[:3]}, r"`position` \(3, 2\) of float64, not finite \(4, 2\)"),
        ({"yaw": np.full(4, np.nan)}, "`yaw` .*not finite"),
        ({"yaw": np.full(4, "a")}, "`yaw` .*not finite"),
        ({"yaw": [0, 1]}, "`position`"),
        ({"position": np.zeros((5, 2)), "yaw": np.zeros(5)}, "4 pictures, without 4.jpg for 5"),
        ({"position": np.zeros((3, 2)), "yaw": np.zeros(3)}, "4 pictures for 3 places"),
        ({"position": np.zeros((0, 2)), "yaw": np.zeros(0)}, "no places"),
    ],
)
def test_trajectories_that_lie(tmp_path, data, text):
    write(tmp_path / "a", **data)
    with pytest.raises(ValueError, match=f"a trajectory of RECON at .*a, found .*{text}"):
        read_one(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot be loaded safely"),
        (pickle.dumps([1]), "list, not `position` and `yaw`"),
        (pickle.dumps({"position": 1}), r"\['position'\], not"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git-LFS pointer"),
    ],
)
def test_damaged_data(tmp_path, content, text):
    write(tmp_path / "a")
    (tmp_path / "a" / "traj_data.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read_one(tmp_path / "a")
