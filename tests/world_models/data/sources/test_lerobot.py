"""LeRobot data sets: what an episode holds, for every version and both ways to store frames."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lerobot_folders import (
    TASKS,
    Recorded,
    actions,
    picture,
    to_png,
    write_lerobot,
)
from v2w_gym.configs.sources import SourceFields
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.lerobot import open_lerobot, recognises
from v2w_gym.world_models.data.sources.opening import open_source

TOP, WRIST = "observation.images.top", "observation.images.wrist"


@pytest.fixture
def write(tmp_path):
    """Write a data set and return its folder."""
    return lambda **settings: write_lerobot(tmp_path / "drawers", Recorded(**settings))


def pictures(episode, length, camera=0):
    return np.stack([picture(episode, step, camera) for step in range(length)])


def only(source, number=0):
    return next(source.read(number, number + 1))


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("version", ["v2.0", "v2.1", "v3.0"])
def test_it_reads_every_frame_action_and_instruction(write, version, kind):
    folder = write(version=version, kind=kind, episodes=(6, 4, 7, 1, 5))
    assert recognises(folder) and not recognises(folder / "meta")
    source = open_source(str(folder))
    assert source.name == f"drawers, LeRobot {version}, train"
    stored = {path for path in folder.rglob("*") if path.is_file()}
    assert len(source) == 5 and set(source.files) == stored
    episodes = list(source.read())
    assert [episode.id for episode in episodes] == source.ids()
    assert source.ids() == [f"episode_{number:06d}" for number in range(5)]
    for number, (episode, length) in enumerate(zip(episodes, (6, 4, 7, 1, 5), strict=True)):
        np.testing.assert_array_equal(episode.frames[:], pictures(number, length))
        np.testing.assert_array_equal(episode.actions, actions(number, length)[:-1])
        assert episode.actions.dtype == np.float32
        assert episode.instruction == TASKS[number % 2]
        assert episode.camera == "top" and episode.rate == 10
        assert episode.robot is None and episode.success is None and episode.task is None
        assert episode.action_fields == (("dx", 1), ("dy", 1), ("gripper", 1))


def test_reading_can_begin_and_end_anywhere(write):
    source = open_source(str(write()))
    assert [e.id for e in source.read(1)] == ["episode_000001", "episode_000002"]
    assert [e.id for e in source.read(1, 2)] == ["episode_000001"]


def test_stored_pictures_come_byte_by_byte(write):
    frames = only(open_source(str(write(kind="image"))), 2).frames
    for step in (0, 1, 4, 2, -1):
        assert frames.encoded(step) == to_png(picture(2, step % 7))


@pytest.mark.parametrize("kind", ["video", "image"])
def test_no_file_stays_open(write, kind):
    open_files = Path("/proc/self/fd")
    episodes = list(open_source(str(write(kind=kind))).read())
    before = len(list(open_files.iterdir()))
    for episode in episodes:
        assert len(episode.frames[:2]) == 2
    if kind == "image":
        for step in range(4):
            episodes[1].frames.encoded(step)
    assert len(list(open_files.iterdir())) == before


@pytest.mark.parametrize("kind", ["video", "image"])
def test_any_steps_are_read(write, kind):
    frames = only(open_source(str(write(kind=kind))), 2).frames
    whole = pictures(2, 7)
    for steps in (
        slice(2, 5),
        slice(6, 7),
        slice(None, None, 3),
        slice(5, 5),
        slice(None, None, -1),
    ):
        np.testing.assert_array_equal(frames[steps], whole[steps])
    for steps in ([3, 0, 3], [-1, 2], []):
        np.testing.assert_array_equal(
            frames[np.array(steps, np.int64)], whole[np.array(steps, int)]
        )
    with pytest.raises(IndexError):
        frames[np.array([7])]


def test_one_of_several_cameras_must_be_chosen(write):
    folder = write(cameras=(TOP, WRIST))
    with pytest.raises(ValueError, match=r"expected camera= with one of .*\['top', 'wrist'\]"):
        open_source(str(folder))
    with pytest.raises(ValueError, match="found 'wirst'; did you mean 'wrist'"):
        open_source(str(folder), camera="wirst")
    for name in ("wrist", WRIST):
        episode = only(open_source(str(folder), camera=name))
        assert episode.camera == "wrist"
        np.testing.assert_array_equal(episode.frames[:], pictures(0, 6, camera=1))


def test_a_mapping_names_camera_actions_instruction_and_success(write):
    solved = [step in (4, 5) for step in range(6)] + [False] * 11
    said = ["lift it"] * 6 + [""] * 11
    folder = write(
        cameras=(TOP, WRIST),
        extra={
            "solved": ({"dtype": "bool", "shape": [1]}, solved),
            "said": ({"dtype": "string", "shape": [1]}, said),
            "tool": ({"dtype": "float64", "shape": [2]}, [[row, -row] for row in range(17)]),
        },
    )
    fields = SourceFields(
        frames=WRIST,
        actions={"open_gripper": "action[2]", "world_vector": "tool[0:2]"},
        instruction="said",
        success="solved",
        rate=5,
    )
    first, second, _ = open_lerobot(folder, Wanted(fields=fields)).read()
    assert first.action_fields == (("open_gripper", 1), ("world_vector", 2))
    np.testing.assert_array_equal(first.actions[3], [1, 3, -3])
    assert first.instruction == "lift it" and second.instruction is None
    assert first.success.tolist() == solved[:6]
    assert first.rate == 5 and first.camera == "wrist"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"id": "uuid"}, "expected no id for .*, found 'uuid'"),
        ({"instruction": "sad"}, "found 'sad'; did you mean 'said'"),
        ({"instruction": "timestamp"}, "expected text in timestamp, found float32"),
        ({"success": "said"}, "expected one number or bool a frame in said, found object"),
        ({"actions": {"arm": "action[1:4]"}}, r"expected action\[1:4\] within action, found 3"),
        ({"actions": {"arm": "action[1"}}, r"expected a field .* such as action\[0:3\]"),
        ({"actions": {"arm": "said"}}, "expected numbers, .* in said"),
    ],
)
def test_wrong_fields_are_refused(write, fields, error):
    folder = write(extra={"said": ({"dtype": "string", "shape": [1]}, ["lift it"] * 17)})
    with pytest.raises(ValueError, match=error):
        only(open_lerobot(folder, Wanted(fields=SourceFields(**fields))))


def test_text_and_success_may_be_unknown(write):
    unknown = [None] * 17
    folder = write(
        extra={
            "said": ({"dtype": "string", "shape": [1]}, pa.array(unknown, pa.string())),
            "success": ({"dtype": "bool", "shape": [1]}, pa.array(unknown, pa.bool_())),
        }
    )
    episode = only(open_lerobot(folder, Wanted(fields=SourceFields(instruction="said"))))
    assert episode.instruction is None and episode.success is None


def test_cameras_of_one_short_name_keep_their_whole_names(write):
    folder = write(cameras=(TOP, "top"))
    assert only(open_source(str(folder), camera=TOP)).camera == TOP


def test_success_after_an_action_counts_for_the_next_frame(write):
    solved = [False, False, True, False, False, False] + [False, False, False, True] + [False] * 7
    folder = write(extra={"next.success": ({"dtype": "bool", "shape": [1]}, solved)})
    first, second, third = (episode.success for episode in open_source(str(folder)).read())
    assert first.tolist() == [False, False, False, True, False, False]
    assert second.tolist() == [False, False, False, True]  # the frame after it is not recorded
    assert not third.any()


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (None, None),
        (["actions"], None),
        (["x", "y", "x"], None),
        ({"motors": ["x", "y", "z"]}, (("x", 1), ("y", 1), ("z", 1))),
        ([["x", "y", "z"]], (("x", 1), ("y", 1), ("z", 1))),
        ({"z": 2, "x": 0, "y": 1}, (("x", 1), ("y", 1), ("z", 1))),
        (["arm[0]", "arm[1]", "hand"], (("arm", 2), ("hand", 1))),
        (["arm[0]", "hand", "arm[1]"], None),
    ],
)
def test_names_of_action_values(write, names, fields):
    assert only(open_source(str(write(names=names)))).action_fields == fields


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        ("", [0, 1]),
        (":train", [0, 1]),
        (":val", [2]),
        (":train[1:]", [1]),
        (":train[-1:]", [1]),
        (":val[:1]", [2]),
    ],
)
def test_splits(write, split, numbers):
    folder = write(splits={"train": "0:2", "val": "2:3"})
    source = open_source(f"{folder}{split}")
    assert source.ids() == [f"episode_{number:06d}" for number in numbers]


@pytest.mark.parametrize(
    ("split", "error"),
    [
        ("vale", "found 'vale'; did you mean 'val'"),
        ("empty", "expected at least one episode in 'empty'"),
        ("train[5:]", r"expected at least one episode in 'train\[5:\]'"),
        ("train[0]", r"expected a split such as train\[:10\], found 'train\[0\]'"),
        ("odd", "expected the split 'odd' as first:last"),
    ],
)
def test_wrong_splits(write, split, error):
    splits = {"train": "0:2", "val": "2:3", "empty": "3:3", "odd": "all"}
    with pytest.raises(ValueError, match=error):
        open_source(f"{write(splits=splits)}:{split}")


def change_info(folder, **changes):
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("late", "refused"), [(-0.1, False), (-0.2, True), (0.1, True)])
def test_another_number_of_frames_in_a_shared_video(write, late, refused):
    """The end may be the time of the last frame, as some write it."""
    folder = write()
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1][f"videos/{TOP}/to_timestamp"] += late
    pq.write_table(pa.Table.from_pylist(rows), path)
    source = open_source(str(folder))
    if not refused:
        np.testing.assert_array_equal(only(source, 1).frames[:], pictures(1, 4))
        return
    with pytest.raises(ValueError, match="expected 4 frames of episode_000001 in .*mp4, as many"):
        only(source, 1)
    assert [episode.id for episode in source.read(2)] == ["episode_000002"]


@pytest.mark.parametrize("version", ["v1.6", "v3.1", "v4.0", None])
def test_other_versions_are_refused(write, version):
    folder = write()
    change_info(folder, codebase_version=version)
    with pytest.raises(ValueError, match=f"v2.0, v2.1, v3.0 in .*info.json, found '{version}'"):
        open_source(str(folder))


def test_damaged_descriptions_are_refused(write):
    folder = write()
    change_info(folder, fps=None)
    with pytest.raises(ValueError, match="expected fps, features and data_path in .*info.json"):
        open_source(str(folder))
    (folder / "meta/info.json").write_text('{"codebase')
    with pytest.raises(ValueError, match="expected JSON in .*info.json"):
        open_source(str(folder))


@pytest.mark.parametrize("fps", [0, -10, float("nan"), "fast"])
def test_rates_that_are_none_are_refused(write, fps):
    folder = write()
    change_info(folder, fps=fps)
    with pytest.raises(ValueError, match="expected fps, .*info.json"):
        open_source(str(folder))


@pytest.mark.parametrize(
    "line", ['{"length": 5}', "{", "[1]", '{"episode_index": 1, "length": "4"}']
)
def test_damaged_lines_are_refused(write, line):
    folder = write(version="v2.1")
    with (folder / "meta/episodes.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(ValueError, match=r"episode_index \(int\) and length \(int\) in line 4 of"):
        open_source(str(folder))


@pytest.mark.parametrize("value", [None, "0"])
def test_an_index_without_numbers_is_refused(write, value):
    folder = write()
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = [row | {"data/file_index": value} for row in rows[1:]]
    pq.write_table(pa.Table.from_pylist(kept), path)
    with pytest.raises(ValueError, match="expected a number in every row of data/file_index"):
        open_source(str(folder))


def test_two_episodes_of_one_number_are_refused(write):
    folder = write(version="v2.1")
    path = folder / "meta/episodes.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(ValueError, match="expected different episodes of at least one frame"):
        open_source(str(folder))


def test_no_camera(write):
    folder = write(cameras=())
    with pytest.raises(ValueError, match="expected a feature of camera frames"):
        open_source(str(folder))


def test_a_depth_map_is_no_camera(write):
    folder = write(cameras=(TOP, WRIST))
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    features[TOP]["info"] = {"video.is_depth_map": True}
    change_info(folder, features=features)
    assert only(open_source(str(folder))).camera == "wrist"


def test_actions_by_another_name(write):
    folder = write(extra={"actions.joints": ({"dtype": "float32", "shape": [1]}, [0.0] * 17)})
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    del features["action"]
    change_info(folder, features=features)
    with pytest.raises(ValueError, match=r"expected a feature 'action' .* \['actions.joints'\]"):
        open_source(str(folder))
    fields = SourceFields(actions={"arm": "actions.joint"})
    with pytest.raises(ValueError, match="did you mean 'actions.joints'"):
        open_lerobot(folder, Wanted(fields=fields))
    del features["actions.joints"]
    change_info(folder, features=features)
    assert only(open_source(str(folder))).actions is None


def test_a_missing_column(write):
    folder = write(version="v2.1")
    path = next(folder.glob("data/*/episode_000000.parquet"))
    table = pq.read_table(path)
    pq.write_table(
        table.rename_columns([n.replace("action", "actions") for n in table.column_names]), path
    )
    with pytest.raises(ValueError, match="a column 'action' in .*; did you mean 'actions'"):
        only(open_source(str(folder)))


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_missing_files(write, version):
    folder = write(version=version)
    for path in folder.glob("videos/**/*.mp4"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="expected the file .*mp4, found none; download"):
        open_source(str(folder))
    for path in folder.glob("meta/episodes*"):
        path.rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match="expected the .*episodes.*download"):
        open_source(str(folder))


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_data_set_downloaded_in_part(write, version):
    folder = write(version=version)
    source = open_source(str(folder))
    last = source.files[-1]
    last.unlink()
    assert only(source).frames[:].shape[0] == 6
    with pytest.raises(FileNotFoundError, match=f"expected the file {last}, found none"):
        only(source, 2).frames[:]
    assert last not in open_source(str(folder)).files


@pytest.mark.parametrize("cut", [500, 3000])
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_damaged_files_name_the_file(write, version, cut):
    folder = write(version=version, episodes=(6, 4))
    source = open_source(str(folder))
    for path in folder.glob("videos/**/*.mp4"):
        path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match="expected a whole video .*mp4, found .*copy it again"):
        only(source).frames[0:1]
    for path in folder.glob("data/*/*.parquet"):
        path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match="expected a whole Parquet file at .*parquet, found"):
        only(source)


def test_pointers_of_git_lfs_are_refused(write):
    folder = write()
    for path in folder.glob("videos/**/*.mp4"):
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="found a git-LFS pointer"):
        open_source(str(folder))


def test_rows_of_another_episode_are_refused(write):
    folder = write(kind="image")
    path = next(folder.glob("data/chunk-000/file-000.parquet"))
    table = pq.read_table(path)
    place = table.column_names.index("episode_index")
    moved = table.set_column(place, "episode_index", pa.array([0] * 7 + [1] * 3))
    pq.write_table(moved, path)
    source = open_source(str(folder))
    assert only(source).id == "episode_000000"
    with pytest.raises(ValueError, match=r"expected episode 1 in rows 6 to 10 .* found \[0, 1\]"):
        only(source, 1)
    assert [episode.id for episode in source.read(2)] == ["episode_000002"]


def test_values_that_are_not_finite_pass(write, monkeypatch):
    monkeypatch.setattr("tests.lerobot_folders.actions", lambda e, n: np.full((n, 3), np.nan, "f4"))
    assert np.isnan(only(open_source(str(write()))).actions).all()


def test_without_pyarrow(write, monkeypatch):
    folder = write()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match="expected pyarrow to read .* run: pip install"):
        open_source(str(folder))


def test_opening_imports_no_heavy_library():
    heavy = "{'av', 'pyarrow', 'PIL'} & set(sys.modules)"
    code = f"import v2w_gym.world_models.data.sources.opening, sys; print({heavy})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
