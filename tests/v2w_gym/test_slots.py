"""Attributes of a slot can be read and set as in Gymnasium's SyncVectorEnv."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.starts import bundled_starts
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast


@pytest.fixture
def ours(world, judge):
    return Vid2WorldVectorEnv(3, 20, world, judge=judge, render_mode="rgb_array")


@pytest.fixture
def theirs(world, judge):
    def scalar():
        return gym.wrappers.TimeLimit(Vid2WorldEnv(world, judge=judge, render_mode="rgb_array"), 20)

    return SyncVectorEnv([scalar] * 3)


NAMES = [
    *["action_space", "observation_space", "render_mode", "metadata", "np_random_seed", "task"],
    *["task_description", "start", "robot", "obs_type", "simulation", "_max_episode_steps"],
]


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_is_that_of_scalar_environments(ours, theirs, name):
    for envs in (ours, theirs):
        envs.reset(seed=[7, 1, 4])
    assert ours.get_attr(name) == theirs.get_attr(name) == ours.call(name)


def test_a_vector_environment_says_what_a_sync_vector_env_says(ours, theirs):
    for name in ("num_envs", "metadata", "render_mode", "action_space", "single_action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert isinstance(ours, SyncVectorEnv)
    assert ours.observation_space == theirs.observation_space
    assert ours.single_observation_space == theirs.single_observation_space


def test_a_method_is_called_with_arguments(ours):
    ours.reset(seed=0)
    assert ours.call("has_wrapper_attr", "task") == (True,) * 3
    frames = [frame for frame, _ in ours.call("reset", seed=5, options={"start": 4})]
    np.testing.assert_array_equal(frames, [bundled_starts("close_drawer")[4].frame] * 3)


def test_what_is_set_holds_from_the_next_reset_on(ours, act):
    ours.reset(seed=0)
    ours.set_attr("task", ["close_drawer", "open_drawer", "open_drawer"])
    ours.set_attr("start", 3)
    assert ours.get_attr("task") == ("close_drawer", "open_drawer", "open_drawer")
    assert ours.call("task_description") == ("close the drawer",) * 3
    assert ours.step(np.stack([act()] * 3))[4]["task"].tolist() == ["close_drawer"] * 3
    frames, info = ours.reset()
    assert info["task"].tolist() == ["close_drawer", "open_drawer", "open_drawer"]
    np.testing.assert_array_equal(frames[2], bundled_starts("open_drawer")[3].frame)
    _, info = ours.reset(options={"task": "close_drawer"})
    assert ours.get_attr("task") == ("close_drawer",) * 3 == tuple(info["task"])


def test_what_is_set_holds_after_an_autoreset_too(world, act):
    envs = Vid2WorldVectorEnv(2, 20, world, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=0)
    envs.set_attr("task", "open_drawer")
    info = envs.step(np.stack([act(end=True), act()]))[4]
    assert info["task"].tolist() == ["open_drawer", "close_drawer"]
    assert info["final_info"]["task"][0] == "close_drawer"


def test_a_slot_keeps_what_a_user_puts_there(ours):
    ours.set_attr("level", [1, 2, 3])
    assert ours.get_attr("level") == (1, 2, 3)


def test_what_cannot_be_set(ours):
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        ours.set_attr("task", "opn_drawer")
    with pytest.raises(ValueError, match="0 to 59"):
        ours.set_attr("start", 99)
    with pytest.raises(AttributeError, match="task_description"):
        ours.set_attr("task_description", "pick up the apple")
    with pytest.raises(ValueError, match="3 environments"):
        ours.set_attr("task", ["open_drawer"] * 2)
    assert ours.get_attr("task") == ("close_drawer",) * 3


def test_an_unknown_attribute_gets_a_hint(ours):
    with pytest.raises(AttributeError, match="did you mean 'task_description'"):
        ours.get_attr("task_descriptions")


@pytest.mark.parametrize("seed", [5, np.int64(5), [5, 6, 7], np.arange(5, 8)])
def test_seeds_are_those_of_the_slots(ours, seed):
    _, info = ours.reset(seed=seed)
    assert ours.np_random_seed == (5, 6, 7) and info["seed"].tolist() == [5, 6, 7]
    ours.reset()
    assert ours.np_random_seed == (5, 6, 7)
    ours.reset(seed=[None, 60, None], options={"reset_mask": np.array([True, True, False])})
    assert ours.np_random_seed == (5, 60, 7)
    assert len({id(rng) for rng in ours.np_random}) == 3


@pytest.mark.parametrize("seed", [1.5, "seven", [1.5, 2, 3], [-1, 2, 3], ["1", "2", "3"]])
def test_what_is_no_seed_is_refused(ours, seed):
    with pytest.raises((ValueError, gym.error.Error), match="expected|Seed"):
        ours.reset(seed=seed)


def test_a_time_limit_may_be_set(ours, act):
    ours.reset(seed=0)
    ours.step(np.stack([act()] * 3))
    ours.set_attr("_max_episode_steps", [1, 2, -1])
    assert ours.step(np.stack([act()] * 3))[3].tolist() == [False, True, False]


def test_slots_without_a_seed_differ(ours):
    _, info = ours.reset()
    assert len(set(info["seed"])) == 3


def test_the_spec_is_that_of_every_slot(bundled):
    envs = gym.make_vec("Vid2World-RT1-v0", num_envs=2, checkpoint="x")
    assert [spec.id for spec in envs.get_attr("spec")] == ["Vid2World-RT1-v0"] * 2
    assert envs.spec.kwargs["checkpoint"] == "x" and "Vid2World-RT1-v0" in str(envs)


@pytest.mark.parametrize("action", [0, 0.5, np.float32(1), "rest"])
def test_a_single_number_is_an_error_of_type(ours, action):
    ours.reset(seed=0)
    with pytest.raises(TypeError):
        ours.step(action)


def test_a_slot_alone_is_a_scalar_environment_in_a_time_limit(world, act):
    slot = Vid2WorldVectorEnv(1, 2, world).envs[0]
    alone = gym.wrappers.TimeLimit(Vid2WorldEnv(world), 2)
    np.testing.assert_array_equal(slot.reset(seed=3)[0], alone.reset(seed=3)[0])
    for _ in range(2):
        mine, other = slot.step(act(x=0.02)), alone.step(act(x=0.02))
        np.testing.assert_array_equal(mine[0], other[0])
        assert mine[1:] == other[1:]
    assert mine[3]


def test_a_slot_that_let_go_of_its_attempt_is_not_stepped(world, act):
    envs = Vid2WorldVectorEnv(1, 1, world, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    envs.step(act()[None])
    with pytest.raises(gym.error.ResetNeeded, match="over"):
        envs.envs[0].step(act())


@pytest.mark.parametrize("again", [copy.deepcopy, lambda envs: pickle.loads(pickle.dumps(envs))])
def test_a_copy_goes_on_as_the_original(again, act):
    envs = Vid2WorldVectorEnv(2, 20, CopyLast(STANDIN_SAWYER), judge=None)
    envs.reset(seed=0, options={"tasks": ["close_drawer", "open_drawer"]})
    envs.step(np.stack([act(), act()]))
    other = again(envs)
    mine, theirs = envs.step(np.stack([act(x=0.03)] * 2)), other.step(np.stack([act(x=0.03)] * 2))
    np.testing.assert_array_equal(mine[0], theirs[0])
    assert other.get_attr("task") == ("close_drawer", "open_drawer")
    other.reset(seed=9)
    assert envs.np_random_seed == (0, 1) and other.np_random_seed == (9, 10)
