"""Starts in files: environments begin with one of them, and take over its instruction."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.starts import BUNDLED, bundled_starts, load_start
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.data.starts.files import Start, StartFile, save_starts

PUSH, PULL = (STANDIN_SAWYER.make_action(world_vector=(x, 0, 0)) for x in (0.02, -0.02))


@pytest.fixture
def starts(tmp_path: Path, frames_of) -> str:
    """A file of two starts with three frames each; the second has no instruction."""
    frames = frames_of(STANDIN_SAWYER, 6).reshape(2, 3, 64, 64, 3)
    both = [
        Start("day/7", frames[0], np.stack([PUSH, PULL]), 2, 9, "push the drawer shut"),
        Start("day/8", frames[1], np.full((2, 13), np.nan, np.float32), 2, 9),
    ]
    save_starts(tmp_path / "some.npz", StartFile(both, "standin_sawyer", "", "a robot"))
    return str(tmp_path / "some.npz")


@pytest.mark.parametrize("which", ["0", "day/7"])
def test_a_start_by_number_or_id(starts, frames_of, which):
    context = load_start(f"{starts}#{which}", "close_drawer", STANDIN_SAWYER, 3)
    np.testing.assert_array_equal(context.frames, frames_of(STANDIN_SAWYER, 6)[:3])
    np.testing.assert_array_equal(context.actions, [PUSH, PULL])
    assert context.instruction == "push the drawer shut"


def test_a_model_that_begins_with_fewer_frames_gets_the_newest(starts, frames_of):
    context = load_start(f"{starts}#0", "close_drawer", STANDIN_SAWYER, 2)
    np.testing.assert_array_equal(context.frames, frames_of(STANDIN_SAWYER, 6)[1:3])
    np.testing.assert_array_equal(context.actions, [PULL])
    one = load_start(f"{starts}#0", "close_drawer", STANDIN_SAWYER, 1)
    np.testing.assert_array_equal(one.frames, frames_of(STANDIN_SAWYER, 6)[2:3])


def test_a_model_that_begins_with_more_frames_gets_all_there_are(starts):
    context = load_start(f"{starts}#1", "close_drawer", STANDIN_SAWYER, 5)
    assert context.frames.shape[0] == 3 and np.isnan(context.actions).all()


def test_the_bundled_starts_are_such_a_file():
    context = load_start(f"{BUNDLED}#open_drawer/2000003", "open_drawer", STANDIN_SAWYER, 1)
    np.testing.assert_array_equal(context.frames[0], bundled_starts("open_drawer")[3].frame)
    assert context.instruction is None


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("", "expected one episode, found 2 in .*name one, such as '.*some.npz#0'"),
        ("#2", "expected an episode from 0 to 1 of .*some.npz, found 2"),
        ("#day/77", "the number or id of an episode in .*some.npz.* did you mean 'day/7'"),
    ],
)
def test_starts_that_there_are_not(starts, which, message):
    with pytest.raises(ValueError, match=message):
        load_start(f"{starts}{which}", "close_drawer", STANDIN_SAWYER, 1)


def test_starts_of_another_robot_are_refused(starts):
    with pytest.raises(ValueError, match=r"some.npz#0' does not fit: .*'google_robot', found 'st"):
        load_start(f"{starts}#0", "close_drawer", GOOGLE_ROBOT, 1)


def test_an_environment_begins_with_it(starts, bundled, frames_of):
    env = gym.make("Vid2World-RT1-v0", start=f"{starts}#0", judge=None)
    frame, info = env.reset(seed=0)
    np.testing.assert_array_equal(frame, frames_of(STANDIN_SAWYER, 6)[2])
    assert (info["task"], info["instruction"]) == ("close_drawer", "push the drawer shut")
    assert env.unwrapped.task_description == "push the drawer shut"
    assert env.step(env.action_space.sample())[4]["instruction"] == "push the drawer shut"
    frame, info = env.reset(options={"start": f"{starts}#day/8"})
    np.testing.assert_array_equal(frame, frames_of(STANDIN_SAWYER, 6)[5])
    assert info["instruction"] == "close the drawer"


def test_a_task_that_is_named_keeps_its_instruction(starts, world):
    env = Vid2WorldEnv(world, start=f"{starts}#0", judge=None, task="close_drawer")
    assert env.reset(seed=0)[1]["instruction"] == "close the drawer"
    other = Vid2WorldEnv(world, start=f"{starts}#0", judge=None)
    assert other.reset(seed=0)[1]["instruction"] == "push the drawer shut"
    named = other.reset(seed=0, options={"task": "open_drawer"})[1]
    assert named["instruction"] == "open the drawer"
    other.task = "close_drawer"
    assert other.reset(seed=0)[1]["instruction"] == "close the drawer"


def test_slots_begin_with_starts_of_one_file(starts, world):
    envs = Vid2WorldVectorEnv(2, 5, world, judge=None)
    _, infos = envs.reset(seed=0, options={"starts": [f"{starts}#0", f"{starts}#1"]})
    assert infos["instruction"].tolist() == ["push the drawer shut", "close the drawer"]
    _, infos = envs.reset(options={"starts": [f"{starts}#0", 3]})
    assert infos["instruction"].tolist() == ["push the drawer shut", "close the drawer"]
