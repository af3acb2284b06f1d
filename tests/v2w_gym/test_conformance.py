"""Every environment id passes the conformance tests."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from v2w_gym.configs.robots import CSGO_PLAYER, GOOGLE_ROBOT, RECON_JACKAL
from v2w_gym.conformance import EnvironmentConformance, robot_of
from v2w_gym.world_models.copy_last import CopyLast


@pytest.fixture
def made(pretend, tmp_path, frames_of):
    """Make environments of a robot whose world stands still: `made(id, robot)` returns `make`."""

    def of(name, robot):
        pretend(CopyLast(robot))
        picture = tmp_path / "start.png"
        Image.fromarray(frames_of(robot)[0]).save(picture)
        return lambda **given: gym.make(
            name, **{"checkpoint": "any", "start": str(picture), **given}
        )

    return of


class TestBundledWorldModel(EnvironmentConformance):
    @pytest.fixture
    def make(self):
        return lambda **given: gym.make("Vid2World-RT1-v0", **given)


class TestGoogleRobot(EnvironmentConformance):
    @pytest.fixture
    def make(self, made):
        return made("Vid2World-RT1-v0", GOOGLE_ROBOT)


class TestCounterStrike(EnvironmentConformance):
    @pytest.fixture
    def make(self, made):
        return made("Vid2World-CSGO-v0", CSGO_PLAYER)


class TestRecon(EnvironmentConformance):
    @pytest.fixture
    def make(self, made):
        return made("Vid2World-RECON-v0", RECON_JACKAL)


@pytest.mark.usefixtures("metaworld")
class TestStandin(EnvironmentConformance):
    @pytest.fixture
    def make(self):
        return lambda **given: gym.make("StandinSawyer-v0", **given)


ARMS = ["Vid2World-RT1-v0", "StandinSawyer-v0"]


@pytest.mark.usefixtures("metaworld")
@pytest.mark.filterwarnings("ignore:using the small bundled")
@pytest.mark.parametrize("name", ARMS)
def test_options_name_task_and_start(name):
    env = gym.make(name, start=1)
    other, info = env.reset(seed=0, options={"task": "open_drawer", "start": 2})
    assert (info["task"], info["instruction"]) == ("open_drawer", "open the drawer")
    assert env.get_wrapper_attr("task_description") == "open the drawer"
    again, info = env.reset(seed=5)
    assert info["task"] == "close_drawer"
    assert (again != other).any()
    for wrong in ({"task": "play"}, {"start": 60}, {"start": 1.5}, {"episode": 1.5}):
        with pytest.raises(ValueError, match="expected"):
            env.reset(seed=0, options=wrong)


@pytest.mark.usefixtures("metaworld")
@pytest.mark.filterwarnings("ignore:using the small bundled")
def test_the_same_start_looks_the_same_in_both():
    """Another graphics driver may round differently."""
    frames = [gym.make(name, start=7).reset(seed=0)[0].astype(int) for name in ARMS]
    assert np.abs(frames[0] - frames[1]).mean() < 0.5


@pytest.mark.usefixtures("metaworld")
@pytest.mark.filterwarnings("ignore:using the small bundled")
@pytest.mark.parametrize("name", ARMS)
def test_a_vector_of_them_is_the_scalar_one_slot_by_slot(name):
    envs = gym.make_vec(name, num_envs=2, task="open_drawer")
    frames, infos = envs.reset(seed=5)
    for slot in range(2):
        env = gym.make(name, task="open_drawer")
        frame, info = env.reset(seed=5 + slot)
        np.testing.assert_array_equal(frames[slot], frame)
        assert {key: infos[key][slot] for key in info} == info
    assert envs.call("task_description") == ("open the drawer",) * 2
    move = robot_of(env).moves["+X"]
    stepped = envs.step(np.stack([move, move]))[0][1].astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(stepped - env.step(move)[0]).max() <= 1  # batches round differently
    envs.close()
