"""The prepared format: exact, random access, found damage, and readable by others."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.world_models.data.recorded import InMemory, make_episode
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.robots import ROBOTS, STANDIN_SAWYER
from v2w_gym.world_models.data.episode import EncodedFrames
from v2w_gym.world_models.data.prepared import (
    PreparedData,
    open_prepared,
    robot_from_json,
    robot_to_json,
)
from v2w_gym.world_models.data.preparing.prepare import prepare_source
from v2w_gym.world_models.data.sources.opening import open_source

EPISODES = [make_episode(number, length) for number, length in enumerate((40, 64, 2, 33))]


def write(folder: Path, **settings: Any) -> PreparedData:
    """Prepare `EPISODES` in a new folder."""
    given = {"source": ".", "output": str(folder), "robot": "standin_sawyer", "workers": 1}
    cfg = PrepareConfig(**{**given, "file_mb": 1, **settings})
    return prepare_source(InMemory(EPISODES), cfg)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prepared folder of two data files."""
    return write(tmp_path_factory.mktemp("prepared") / "data").folder


def test_what_was_recorded_comes_back_exactly(folder: Path) -> None:
    data = open_prepared(folder)
    assert data.ids() == tuple(episode.id for episode in EPISODES)
    assert data.lengths.tolist() == [40, 64, 2, 33]
    assert len(data.files) == 2
    for found, expected in zip(data.read(), EPISODES, strict=True):
        np.testing.assert_array_equal(found.frames[:], expected.frames)
        np.testing.assert_array_equal(found.actions, expected.actions)
        np.testing.assert_array_equal(found.success, expected.success)
        assert (found.id, found.instruction, found.task) == (
            *(expected.id, expected.instruction),
            expected.task,
        )
        assert (found.robot, found.rate) == ("standin_sawyer", 3)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 32), (31, 33), (17, 64), (32, 64), (63, 64)]
)
def test_any_clip_is_read_by_itself(folder: Path, start: int, stop: int) -> None:
    data = open_prepared(folder)
    np.testing.assert_array_equal(data.frames(1, start, stop), EPISODES[1].frames[start:stop])
    expected = EPISODES[1].actions[start : stop - 1]
    np.testing.assert_array_equal(data.actions(1, start, stop), expected)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (5, 41)])
def test_frames_that_an_episode_lacks_are_refused(folder: Path, start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 40"):
        open_prepared(folder).frames(0, start, stop)


def test_frames_are_chosen_as_of_an_array_and_kept_as_files(folder: Path) -> None:
    frames = open_prepared(folder).episode(1).frames
    chosen = np.array([60, 2, 3])
    np.testing.assert_array_equal(frames[chosen], EPISODES[1].frames[chosen])
    assert frames[5:5].shape == (0, 64, 64, 3)
    assert isinstance(frames, EncodedFrames)
    assert frames.encoded(-1).startswith(b"\x89PNG")


def test_a_copy_in_another_process_opens_its_own_files(folder: Path) -> None:
    data = open_prepared(folder)
    data.frames(0, 0, 1)
    copied = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copied.frames(3, 5, 9), EPISODES[3].frames[5:9])
    assert copied.robot is STANDIN_SAWYER


def test_the_same_command_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "again")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert len(files) == 8
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "again" / file).read_bytes(), file


@pytest.mark.parametrize("place", [200_000, 399_000])
def test_a_flipped_byte_is_found_when_it_is_read(tmp_path: Path, place: int) -> None:
    data = write(tmp_path / "data")
    path = data.files[0]
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=f"expected whole data in {path}.*prepare it again"):
        [episode.frames[:] for episode in open_prepared(tmp_path / "data").read()]
    with pytest.raises(ValueError, match="as it was written, found other bytes"):
        open_prepared(tmp_path / "data").check_files()


def test_a_truncated_file_or_another_format_is_refused_when_opened(tmp_path: Path) -> None:
    data = write(tmp_path / "data")
    whole = data.files[1].read_bytes()
    data.files[1].write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"expected {len(whole)} bytes at"):
        open_prepared(data.folder)
    (data.folder / "v2w.json").write_text(json.dumps({**data.card, "format": "v2w-data-9"}))
    with pytest.raises(ValueError, match="expected format v2w-data-1.*'?v2w-data-9"):
        open_prepared(data.folder)
    (data.folder / "v2w.json").write_text("{")
    with pytest.raises(ValueError, match="expected the card of prepared data"):
        open_prepared(data.folder)


@pytest.mark.parametrize("place", [60, -200])
def test_a_damaged_table_of_episodes_is_refused_when_opened(tmp_path: Path, place: int) -> None:
    folder = write(tmp_path / "data").folder
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=f"expected {path} with sha256 .*prepare it again"):
        open_prepared(folder)


def test_an_unfinished_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no v2w\.json there"):
        open_prepared(tmp_path)


def test_prepared_data_is_a_source_without_a_choice_of_fields(folder: Path) -> None:
    source = open_source(str(folder))
    assert [episode.id for episode in source.read(1, 3)] == ["episode 1", "episode 2"]
    with pytest.raises(ValueError, match="chosen when it was prepared"):
        open_source(str(folder), camera="wrist")


@pytest.mark.parametrize("name", ROBOTS)
def test_a_robot_is_written_whole(name: str) -> None:
    told = json.loads(json.dumps(robot_to_json(ROBOTS[name])))
    assert robot_from_json(told) is ROBOTS[name]
    other = robot_from_json({**told, "control_hz": 7})
    assert (other.control_hz, other.fields) == (7, ROBOTS[name].fields)


def test_the_files_are_a_lerobot_data_set(folder: Path) -> None:
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 3, 139)
    assert info["features"]["observation.images.image"]["shape"] == [64, 64, 3]
    table = pd.concat(
        pd.read_parquet(folder / name)
        for name in json.loads((folder / "v2w.json").read_text())["files"]
    )
    assert table["index"].tolist() == list(range(139))
    assert table["frame_index"].tolist() == [*range(40), *range(64), *range(2), *range(33)]
    np.testing.assert_allclose(table["timestamp"][:3], [0, 1 / 3, 2 / 3], rtol=1e-6)
    assert table["next.success"].tolist()[:40] == [False] * 36 + [True] * 4
    np.testing.assert_array_equal(table["action"].iloc[39], STANDIN_SAWYER.make_action())
    tasks = pd.read_parquet(folder / "meta/tasks.parquet")
    assert tasks["task_index"].to_dict() == {"open drawer": 0, "close drawer": 1, "": 2}
    episodes = pd.read_parquet(folder / "meta/episodes/chunk-000/file-000.parquet")
    assert episodes["dataset_from_index"].tolist() == [0, 40, 104, 106]
    assert episodes["dataset_to_index"].tolist() == [40, 104, 106, 139]
    assert [list(tasks) for tasks in episodes["tasks"]] == [
        ["open drawer"],
        ["close drawer"],
        [""],
        ["open drawer"],
    ]


def test_stats_are_those_of_the_actions_and_pixels(folder: Path) -> None:
    stats = json.loads((folder / "meta/stats.json").read_text())
    actions = np.concatenate([episode.actions for episode in EPISODES])
    np.testing.assert_allclose(stats["action"]["mean"], actions.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["max"], actions.max(0))
    pixels = np.concatenate([np.asarray(e.frames)[:, ::8, ::8] for e in EPISODES]) / 255
    found = np.array(stats["observation.images.image"]["mean"])
    assert found.shape == (3, 1, 1)
    np.testing.assert_allclose(found.ravel(), pixels.mean((0, 1, 2)))


def test_an_episode_begins_a_row_group_and_pages_have_checksums(folder: Path) -> None:
    file = pq.ParquetFile(folder / "data/chunk-000/file-000.parquet")
    rows = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert rows == [32, 8, 32, 32]
    assert file.metadata.row_group(0).column(0).compression == "UNCOMPRESSED"
