"""CS:GO recordings in DIAMOND's folders: colours, actions, splits, and published starts."""

import sys

import numpy as np
import pytest

from v2w_gym.configs.robots import CSGO_PLAYER
from v2w_gym.world_models.data.sources.csgo import published_starts
from v2w_gym.world_models.data.sources.opening import open_source, read_one

h5py = pytest.importorskip("h5py", reason="the extra `hdf5` is not installed")

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 15, 28, 3), np.uint8)
ACTIONS = np.tile(CSGO_PLAYER.make_action(), (4, 1))
ACTIONS[:, 0] = [1, 0, 1, 1]
FILES = ("1-200/hdf5_dm_july2021_3.hdf5", "1-200/hdf5_dm_july2021_20.hdf5")
FILES += ("201-400/hdf5_dm_july2021_201.hdf5",)


def write(path, frames=FRAMES, actions=ACTIONS, **changes):
    """Write a recording as the data set's authors do, in BGR; None leaves an array out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"frame_{i}_x": frame[..., ::-1] for i, frame in enumerate(frames)}
    arrays |= {f"frame_{i}_y": action.astype(np.float64) for i, action in enumerate(actions)}
    arrays |= {f"frame_{i}_helperarr": np.zeros(2) for i in range(len(frames))}
    with h5py.File(path, "w") as file:
        for name, value in (arrays | changes).items():
            if value is not None:
                file.create_dataset(name, data=value, compression="gzip" if value.ndim else None)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        write(tmp_path / "full_res" / name)
    (tmp_path / "full_res" / "test_split.txt").write_text("hdf5_dm_july2021_20.hdf5\n\n")
    return tmp_path / "full_res"


def test_frames_are_rgb_and_the_action_at_a_frame_leads_to_the_next(folder):
    source = open_source(str(folder))
    assert source.ids() == tuple(sorted(name.removesuffix(".hdf5") for name in FILES))
    episode = next(source.read())
    assert (len(episode), episode.robot, episode.rate) == (4, "csgo_player", 16)
    np.testing.assert_array_equal(episode.frames[:], FRAMES)
    np.testing.assert_array_equal(episode.frames[np.array([3, 0, 3])], FRAMES[[3, 0, 3]])
    assert episode.frames[4:].shape == (0, 15, 28, 3)
    np.testing.assert_array_equal(episode.actions, ACTIONS[:-1])


def test_frames_are_read_on_demand(folder):
    path = write(folder / FILES[0], frame_3_x=np.zeros((2, 2)))
    episode = read_one(path)
    assert len(episode.frames[:3]) == 3
    with pytest.raises(ValueError, match=r"july2021_3.hdf5, found float64 \(1, 2, 2\), not uint8"):
        episode.frames[:]


def test_the_test_split_is_a_list_of_names(folder):
    assert [path.name for path in open_source(f"{folder}:test").files] == [FILES[1][6:]]
    assert [path.name for path in open_source(f"{folder}:train[1:]").files] == [FILES[2][8:]]
    (folder / "test_split.txt").rename(folder.parent / "test_split.txt")
    assert len(open_source(f"{folder}:test")) == 1
    with pytest.raises(ValueError, match=r"one of \['all', 'test', 'train'\], found 'tets'"):
        open_source(f"{folder}:tets")
    (folder.parent / "test_split.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_split.txt in or beside .*full_res, found"):
        open_source(f"{folder}:test")
    assert len(open_source(f"{folder}:all[1:]")) == 2


def test_test_files_that_are_not_there_are_counted(folder, caplog):
    (folder / "test_split.txt").write_text("hdf5_dm_july2021_20.hdf5\nhdf5_dm_july2021_21.hdf5")
    assert len(open_source(f"{folder}:test")) == 1
    assert "1 of 2 files" in caplog.text


def test_published_starts():
    """The first four, and the range, are those of the file that the official code loads."""
    ids = [f"{i // 200}/hdf5_dm_july2021_{i}" for i in range(500)]
    starts = published_starts(ids[::-1])
    assert [start for _, start in starts[:4]] == [102, 435, 860, 270]
    assert {min(s for _, s in starts), max(s for _, s in starts)} == {1, 982}
    assert [name for name, _ in starts[:3]] == [f"0/hdf5_dm_july2021_{i}" for i in (0, 1, 10)]
    with pytest.raises(ValueError, match="500 test files of CS:GO, .*, found 499"):
        published_starts(ids[1:])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frame_1_x": None}, r"found no frame_1_x among 11 arrays, such as 'frame_0_helperarr'"),
        ({"frame_99999999999_x": FRAMES[0]}, r"found no frame_4_x among 13 arrays"),
        ({"frame_1_y": None}, r"found .*frame_1_y"),
        ({"frame_0_x": FRAMES[0].astype(np.float32)}, r"found float32 \(1, 15, 28, 3\), not uint8"),
        ({"frame_1_y": np.zeros(50)}, r"all input arrays must have the same shape"),
        ({f"frame_{i}_y": np.array([b"a"] * 51) for i in range(4)}, "not numbers"),
        ({f"frame_{i}_x": None for i in range(4)}, r"found no frame_0_x among 8 arrays"),
    ],
)
def test_files_that_lie(tmp_path, changes, text):
    path = write(tmp_path / "hdf5_dm_july2021_1.hdf5", **changes)
    with pytest.raises(ValueError, match=f"a CS:GO recording at .*july2021_1.hdf5, .*{text}"):
        read_one(path)


@pytest.mark.parametrize("value", ["group", "empty"])
def test_a_frame_that_is_no_array(tmp_path, value):
    path = write(tmp_path / "hdf5_dm_july2021_1.hdf5", frame_1_y=None)
    with h5py.File(path, "a") as file:
        file["frame_1_y"] = h5py.Empty("f8") if value == "empty" else file.create_group("other")
    with pytest.raises(ValueError, match="found frame_1_y that is no array"):
        read_one(path)


def test_an_array_too_large_for_memory(tmp_path):
    path = write(tmp_path / "hdf5_dm_july2021_1.hdf5", frame_0_x=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("frame_0_x", (1 << 20, 1 << 20, 3), np.uint8, chunks=(1, 1, 3))
    with pytest.raises(ValueError, match=r"frame_0_x of 3,072.0 GiB, more than a frame"):
        read_one(path)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_file(tmp_path, kept):
    path = write(tmp_path / "hdf5_dm_july2021_1.hdf5")
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(ValueError, match=r"a CS:GO recording at .*july2021_1.hdf5, found"):
        read_one(path)


def test_without_h5py(tmp_path, monkeypatch):
    path = write(tmp_path / "hdf5_dm_july2021_1.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"h5py to read HDF5 .*pip install '\.\[hdf5\]'"):
        read_one(path)
