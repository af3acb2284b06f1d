"""Behaviours: all act within bounds, and the expert solves the task."""

import numpy as np
import pytest

from v2w_gym.standin.behaviours import BEHAVIOURS, make_behaviour
from v2w_gym.standin.env import StandinEnv

pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high")


@pytest.fixture(scope="module")
def envs(metaworld):
    return {task: StandinEnv(task) for task in ("close_drawer", "open_drawer")}


def act_out(env, behaviour, seed, steps):
    env.reset(seed=seed)
    act = make_behaviour(behaviour, env, np.random.default_rng(seed))
    actions, success = [], []
    for _ in range(steps):
        actions.append(act())
        success.append(env.step(actions[-1])[4]["success"])
    return np.stack(actions), success


@pytest.mark.parametrize(("task", "seed"), [("close_drawer", 0), ("open_drawer", 1)])
def test_the_expert_solves_the_task_within_the_horizon(envs, task, seed):
    env = envs[task]
    _, success = act_out(env, "expert", seed, 20)
    assert not success[0] and success[-2:] == [True, True]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_every_behaviour_acts_and_repeats_itself(envs, behaviour):
    env = envs["close_drawer"]
    actions, _ = act_out(env, behaviour, 3, 3)
    env.robot.check_actions(actions)
    assert np.abs(actions[:, env.robot.slices["world_vector"]]).max() > 0
    np.testing.assert_array_equal(act_out(env, behaviour, 3, 3)[0], actions)


def test_noise_makes_a_difference(envs):
    env = envs["close_drawer"]
    expert, noisy = (act_out(env, name, 3, 1)[0] for name in ("expert", "noisy_expert"))
    assert (expert != noisy).any()


def test_unknown_behaviour(envs):
    with pytest.raises(ValueError, match="did you mean 'noisy_expert'"):
        make_behaviour("noisy_exprt", envs["close_drawer"], np.random.default_rng(0))
