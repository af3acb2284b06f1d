"""Data sets that LeRobot records: we read from them what LeRobot itself returns."""

import numpy as np
import pytest

from v2w_gym.world_models.data.sources.opening import open_source

pytestmark = pytest.mark.slow

LEROBOTS = ["V2W_LEROBOT_PYTHON", "V2W_LEROBOT04_PYTHON", "V2W_LEROBOT03_PYTHON"]
"""Interpreters with LeRobot 0.6 and 0.4, which write version 3.0, and 0.3, which writes 2.1."""


@pytest.fixture(scope="module")
def record(results_of, tmp_path_factory):
    """Record with the LeRobot of an interpreter, once; return the folder of a data set."""
    folder = tmp_path_factory.mktemp("lerobot")

    def folder_of(variable, name):
        told = results_of("lerobot_data_program.py", variable, str(folder / variable))
        assert name in told["sets"]
        assert told["version"] == ("v2.1" if variable == LEROBOTS[-1] else "v3.0")
        return folder / variable / name

    return folder_of


@pytest.mark.parametrize("camera", ["top", "wrist"])
@pytest.mark.parametrize("name", ["av1", "h264", "images", "small_images"])
@pytest.mark.parametrize("variable", LEROBOTS)
def test_every_row_is_what_lerobot_returns(record, variable, name, camera):
    folder = record(variable, name)
    with np.load(folder / "returned.npz") as returned:
        rows = dict(returned)
    source = open_source(str(folder), camera=camera)
    assert len(source) == 5 and source.name.endswith("train")
    for number, episode in enumerate(source.read()):
        of_it = {name: values[rows["episode_index"] == number] for name, values in rows.items()}
        frames = episode.frames[:]
        np.testing.assert_array_equal(frames, of_it[f"observation.images.{camera}"])
        for steps in (slice(1, 3), slice(-1, None), slice(None, None, 2)):
            np.testing.assert_array_equal(episode.frames[steps], frames[steps])
        np.testing.assert_array_equal(episode.actions, of_it["action"][:-1])
        assert episode.action_fields == (("dx", 1), ("dy", 1), ("gripper", 1))
        assert episode.instruction == of_it["task"][0]
        assert episode.success.tolist() == of_it["next.success"].ravel().tolist()
        assert episode.rate == 10 and episode.camera == camera


@pytest.mark.parametrize("name", ["h264", "small_images"])
@pytest.mark.parametrize("variable", LEROBOTS)
def test_files_lie_in_several_folders(record, variable, name):
    files = open_source(str(record(variable, name)), camera="top").files
    folders = {part for path in files for part in path.parts if part.startswith("chunk-")}
    assert folders >= {"chunk-000", "chunk-001"}
