"""LeRobot loads what `v2w prepare` writes: the same pictures, actions, times and instructions."""

import numpy as np
import pytest

from tests.world_models.data.recorded import InMemory, make_episode
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.world_models.data.preparing.prepare import prepare_source
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.lerobot import open_lerobot

IMAGE = "observation.images.image"
LENGTHS = (40, 64, 2, 33)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return prepared data of two files."""
    episodes = [make_episode(number, length) for number, length in enumerate(LENGTHS)]
    folder = tmp_path_factory.mktemp("prepared") / "data"
    cfg = PrepareConfig(
        source=".", output=str(folder), robot="standin_sawyer", workers=1, file_mb=1
    )
    return prepare_source(InMemory(episodes), cfg)


def test_our_own_reader_of_lerobot_data_sets_finds_the_same(prepared):
    source = open_lerobot(prepared.folder, Wanted())
    for found, expected in zip(source.read(), prepared.read(), strict=True):
        np.testing.assert_array_equal(found.frames[:], expected.frames[:])
        np.testing.assert_array_equal(found.actions, expected.actions)
        assert found.action_fields == STANDIN_SAWYER.action_layout.fields
        assert found.robot == "standin_sawyer" and found.rate == 3
        assert found.instruction == expected.instruction
        assert found.success.tolist()[1:] == expected.success.tolist()[1:]  # LeRobot keeps no first
        assert found.frames.encoded(1) == expected.frames.encoded(1)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["V2W_LEROBOT_PYTHON", "V2W_LEROBOT04_PYTHON"])
def test_lerobot_loads_it(prepared, results_of, variable, tmp_path):
    output = tmp_path / "returned.npz"
    told = results_of("lerobot_prepared_program.py", variable, str(prepared.folder), str(output))
    assert told == {
        "episodes": 4,
        "frames": sum(LENGTHS),
        "frames_of_one": 64,
        "fps": 3,
        "robot": "standin_sawyer",
    }
    with np.load(output) as returned:
        rows = dict(returned)
    for number, episode in enumerate(prepared.read()):
        of_it = {
            name: values[rows["episode_index"] == number]
            for name, values in rows.items()
            if not name.startswith("stats")
        }
        check_episode(of_it, episode)
    actions = np.concatenate([episode.actions for episode in prepared.read()])
    np.testing.assert_allclose(rows["stats mean"], actions.mean(0), atol=1e-6)


def check_episode(rows, episode):
    pictures = (rows[IMAGE].transpose(0, 2, 3, 1) * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(pictures, episode.frames[:])
    np.testing.assert_array_equal(rows["action"][:-1], episode.actions)
    np.testing.assert_allclose(rows["timestamp"], np.arange(len(episode)) / 3, rtol=1e-6)
    assert rows["task"].tolist() == [episode.instruction or ""] * len(episode)
    assert rows["next.success"].ravel()[:-1].tolist() == episode.success[1:].tolist()
    before, now = rows[f"near {IMAGE}"].swapaxes(0, 1)
    np.testing.assert_array_equal(now, rows[IMAGE])
    np.testing.assert_array_equal(before[1:], rows[IMAGE][:-1])
    assert rows[f"near {IMAGE}_is_pad"][:, 0].tolist() == [True] + [False] * (len(episode) - 1)
    np.testing.assert_array_equal(rows["near action"][:-1, 1], rows["action"][1:])
    assert rows["near action_is_pad"][:, 1].tolist() == [False] * (len(episode) - 1) + [True]
