"""The stand-in robot: determinism, effects of actions, success, and errors."""

import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from v2w_gym.standin.drawer import DRAWER_TASKS
from v2w_gym.standin.env import StandinEnv

pytestmark = [
    pytest.mark.usefixtures("metaworld"),
    pytest.mark.filterwarnings("ignore:.*maximum and minimum values are equal"),
]


@pytest.fixture(scope="module")
def env(metaworld):
    return StandinEnv("close_drawer")


@pytest.fixture
def move(env):
    """Take one step with the hand displaced by (x, y, z) metres."""

    def step(x=0.0, y=0.0, z=0.0, grip=0.0):
        action = env.robot.make_action(
            world_vector=np.array([x, y, z]), gripper_closedness_action=grip
        )
        return env.step(action)

    return step


def test_same_seed_same_frames(env, move):
    first = [env.reset(seed=7)[0], move(x=0.03)[0], move(z=-0.03)[0]]
    env.reset(seed=8)
    again = [env.reset(seed=7)[0], move(x=0.03)[0], move(z=-0.03)[0]]
    np.testing.assert_array_equal(first, again)


def test_other_seed_other_start(env):
    first, _ = env.reset(seed=7)
    hand, handle = env.state.hand, env.state.handle
    assert (env.reset(seed=8)[0] != first).any()
    assert np.linalg.norm(env.state.hand - hand) > 0.005
    assert abs(env.state.handle[0] - handle[0]) > 0.005


def test_the_hand_moves_by_what_was_commanded(env, move):
    """Three steps of 3 cm, then rest: the arm follows with a lag of about one step."""
    env.reset(seed=0)
    before = env.state.hand
    for x in (0.03, 0.03, 0.03, 0, 0, 0):
        move(x=x)
    np.testing.assert_allclose(env.state.hand - before, [0.09, 0, 0], atol=0.01)


def test_doing_nothing_moves_nothing(env, move):
    env.reset(seed=0)
    before, opening = env.state.hand, env.state.opening
    move()
    np.testing.assert_allclose(env.state.hand, before, atol=0.005)
    assert env.state.opening == pytest.approx(opening, abs=1e-3)


def test_gripper_commands_add_up_and_saturate(env, move):
    env.reset(seed=0)
    commands = [env.state.gripper]
    for grip in (0.5, 1.0, 1.0, -0.25):
        move(grip=grip)
        commands.append(env.state.gripper)
    assert commands == [-1, -0.5, 0.5, 1, 0.75]


def test_solved_reads_the_drawer(env):
    env.reset(seed=0)
    assert env.state.opening > DRAWER_TASKS["open_drawer"].solved[0]
    joint = env._sawyer.simulator.data.joint("goal_slidey")
    closed_below = DRAWER_TASKS["close_drawer"].solved[1]
    for opening, closed in ((closed_below - 0.001, True), (closed_below + 0.001, False)):
        joint.qpos[0] = -opening
        assert bool(env.solved) is closed


def test_the_policy_may_end_the_episode(env):
    env.reset(seed=0)
    ending = env.robot.make_action(terminate_episode=np.array([1, 0, 0]))
    assert env.step(ending)[2:4] == (True, False)


def test_reset_comes_first(env):
    with pytest.raises(gym.error.ResetNeeded):
        StandinEnv("open_drawer").step(env.robot.make_action())


def test_unknown_task():
    with pytest.raises(ValueError, match="did you mean 'close_drawer'"):
        StandinEnv("close_drawr")


def test_gymnasium_finds_nothing_wrong():
    made = gym.make("v2w_gym:StandinSawyer-v0", render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*maximum and minimum values are equal")
        check_env(made.unwrapped)


def test_forked_workers_take_pictures_after_this_process_has_taken_one(env):
    frame, _ = env.reset(seed=7)
    workers = gym.vector.AsyncVectorEnv([lambda: StandinEnv("close_drawer")] * 2, context="fork")
    workers.reset_async(seed=[7, 7])
    try:
        frames, _ = workers.reset_wait(timeout=60)
        np.testing.assert_array_equal(frames, [frame, frame])
    finally:
        workers.close(terminate=True)


def test_what_nobody_closes_is_freed_before_the_interpreter_ends():
    code = (
        "import tempfile, weakref, sys; weakref.finalize(sys, print)\n"
        "from v2w_gym.standin.env import StandinEnv\n"
        "envs = [StandinEnv(), StandinEnv('open_drawer')]; [env.reset(seed=0) for env in envs]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_may_import_the_simulator_first():
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    code = "import mujoco; from v2w_gym import StandinEnv; StandinEnv().reset(seed=0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
