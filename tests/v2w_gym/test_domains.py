"""The domains behind Gymnasium's ids: spaces, starts and errors."""

import os
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from PIL import Image

from v2w_gym.configs.robots import CSGO_PLAYER, GOOGLE_ROBOT, RECON_JACKAL, STANDIN_SAWYER, WIDOWX
from v2w_gym.configs.world_model import WorldModelSettings
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast

EACH_DOMAIN = pytest.mark.parametrize(
    ("name", "robot", "horizon"),
    [
        ("Vid2World-RT1-v0", GOOGLE_ROBOT, 20),
        ("Vid2World-CSGO-v0", CSGO_PLAYER, 100),
        ("Vid2World-RECON-v0", RECON_JACKAL, 16),
        ("Vid2World-Bridge-v0", WIDOWX, 120),
    ],
)


@pytest.fixture
def picture(tmp_path, frames_of):
    """Save one frame of a robot's camera: `picture(robot)` returns its path."""

    def save(robot):
        path = tmp_path / f"{robot.name}.png"
        Image.fromarray(frames_of(robot)[0]).save(path)
        return str(path)

    return save


@EACH_DOMAIN
def test_check_env_is_clean(pretend, picture, name, robot, horizon):
    pretend(CopyLast(robot, window=5, context_frames=4))
    made = gym.make(name, checkpoint="any", start=picture(robot), render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*symmetric and normalized")  # these are radians
        check_env(made.unwrapped)


@EACH_DOMAIN
def test_spaces_rate_and_horizon_are_the_robots(pretend, picture, name, robot, horizon):
    pretend(CopyLast(robot, window=2))
    env = gym.make(name, checkpoint="any", start=picture(robot))
    assert env.observation_space.shape == (*robot.frame_size, 3)
    np.testing.assert_allclose(env.action_space.low, robot.low, atol=1e-5)
    np.testing.assert_allclose(env.action_space.high, robot.high, atol=1e-5)
    assert env.metadata["render_fps"] == robot.control_hz
    frame, info = env.reset(seed=0)
    ends = [env.step(robot.make_action())[2:4] for _ in range(horizon)]
    assert ends == [(False, False)] * (horizon - 1) + [(False, True)]
    assert info["task"] == env.get_wrapper_attr("task")


@EACH_DOMAIN
def test_make_vec(pretend, picture, name, robot, horizon):
    pretend(CopyLast(robot, context_frames=2))
    env = gym.make_vec(name, num_envs=2, checkpoint="any", start=picture(robot))
    assert isinstance(env, Vid2WorldVectorEnv) and env.metadata["render_fps"] == robot.control_hz
    frames, _ = env.reset(seed=0)
    assert frames in env.observation_space
    again = env.step(np.stack([robot.make_action()] * 2))
    np.testing.assert_array_equal(again[0], frames)  # nothing moves in this world
    assert gym.make_vec(env.spec).reset(seed=0)[0].shape == frames.shape


def test_every_move_can_be_stepped(picture):
    for robot, task in ((CSGO_PLAYER, "play"), (RECON_JACKAL, "drive")):
        env = Vid2WorldEnv(CopyLast(robot), task=task, start=picture(robot))
        env.reset(seed=0)
        for move in robot.moves.values():
            assert env.step(move)[0] in env.observation_space


def test_how_to_load_a_model_reaches_the_loader(bundled):
    how = {
        "checkpoint": "x",
        "preset": "clean",
        "sampler": {"steps": 5},
        "window": 9,
        "context_frames": 2,
        "device": "cuda",
        "dtype": "bfloat16",
    }
    env = gym.make("Vid2World-RT1-v0", **how)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    gym.make_vec("Vid2World-RT1-v0", **how)
    Vid2WorldEnv(WorldModelSettings(**how))
    Vid2WorldVectorEnv(2, 5, WorldModelSettings(**how))
    assert again.spec.kwargs == env.spec.kwargs
    assert bundled == [WorldModelSettings(**how)] * 5


def test_none_leaves_a_setting_as_it_is(bundled):
    gym.make("Vid2World-RT1-v0", checkpoint="x", device=None, window=None)
    assert bundled == [WorldModelSettings("x")]


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
@pytest.mark.parametrize(
    ("argument", "error", "text"),
    [
        ({"preset": "clear"}, ValueError, "did you mean 'clean'"),
        ({"sampler": {"stepz": 5}}, ValueError, "unknown setting sampler.stepz.*'steps'"),
        ({"window": 0}, ValueError, "expected window >= 1, found 0"),
        ({"dtype": "float16"}, ValueError, "cannot set dtype.*did you mean 'bfloat16'"),
        ({"chekpoint": "x"}, TypeError, "'chekpoint'; did you mean 'checkpoint'"),
        ({"strict_action": True}, TypeError, "'strict_action'; did you mean 'strict_actions'"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_before_anything_is_loaded(bundled, make, argument, error, text):
    with pytest.raises(error, match=text):
        make("Vid2World-RT1-v0", **argument)
    assert not bundled


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
@pytest.mark.parametrize(
    ("name", "hub", "robot"),
    [
        ("Vid2World-CSGO-v0", "thuml/Vid2World-CSGO", "csgo_player"),
        ("Vid2World-RECON-v0", "thuml/Vid2World-RECON", "recon_jackal"),
    ],
)
def test_without_a_checkpoint_it_says_where_to_find_one(make, name, hub, robot):
    with pytest.raises(
        ValueError, match=f"checkpoint='{hub}'.*random-checkpoint OUT robot={robot}"
    ):
        make(name)


@pytest.mark.parametrize("make", [gym.make, gym.make_vec])
def test_a_model_of_another_domain_is_refused(pretend, picture, make):
    pretend(CopyLast(RECON_JACKAL))
    text = "world model of csgo_player, found one of recon_jackal; make Vid2World-RECON-v0"
    with pytest.raises(ValueError, match=text):
        make("Vid2World-CSGO-v0", checkpoint="x", start=picture(RECON_JACKAL))


def test_a_task_of_another_domain_is_refused(pretend, picture):
    pretend(CopyLast(CSGO_PLAYER))
    with pytest.raises(
        ValueError, match=r"one of \['play'\] for robot 'csgo_player', found 'drive"
    ):
        gym.make("Vid2World-CSGO-v0", checkpoint="x", task="drive", start=picture(CSGO_PLAYER))
    env = gym.make("Vid2World-CSGO-v0", checkpoint="x", start=picture(CSGO_PLAYER))
    with pytest.raises(ValueError, match="found 'drive'"):
        env.reset(options={"task": "drive"})


def test_a_frame_of_another_domain_is_refused(pretend, picture):
    pretend(CopyLast(CSGO_PLAYER))
    with pytest.raises(ValueError, match=r"150, 280, 3\).*found uint8 \(1, 480, 640, 3\)"):
        gym.make("Vid2World-CSGO-v0", checkpoint="x", start=picture(RECON_JACKAL))


@EACH_DOMAIN
def test_a_published_model_needs_a_picture_to_begin_with(pretend, picture, name, robot, horizon):
    pretend(CopyLast(robot))
    env = gym.make(name, checkpoint="x")  # a reset may still name a start
    with pytest.raises(ValueError, match=f"picture, video or episode of robot {robot.name!r}"):
        env.reset(seed=0)
    assert env.reset(seed=0, options={"start": picture(robot)})[0] in env.observation_space


def test_an_unknown_robot_is_refused():
    with pytest.raises(ValueError, match="did you mean 'csgo_player'"):
        Vid2WorldEnv(CopyLast(STANDIN_SAWYER), robots=["csgo_playr"])


@pytest.mark.skipif("V2W_TEST_DATA" not in os.environ, reason="V2W_TEST_DATA is not set")
def test_a_real_rt1_episode_is_a_start(pretend):
    pretend(CopyLast(GOOGLE_ROBOT))
    episode = Path(os.environ["V2W_TEST_DATA"]) / "fractal_frames" / "fractal_sample.npz"
    env = gym.make("Vid2World-RT1-v0", checkpoint="x", start=str(episode))
    np.testing.assert_array_equal(env.reset(seed=0)[0], np.load(episode)["image"][0])
