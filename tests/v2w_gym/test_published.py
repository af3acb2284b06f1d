"""Published checkpoints behind Gymnasium's interface, at a tiny size and with random weights."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from PIL import Image

from v2w_gym.configs.published import PUBLISHED, RandomCheckpointConfig
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.registration import DOMAINS
from v2w_gym.world_models.vid2world.published.convert import write_random

QUICK = {"steps": 1, "guidance_scale": 1.0}
ROBOT_OF = {env: robots[-1] for env, robots in DOMAINS.items() if robots[-1] in PUBLISHED}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Arguments of `gym.make` for a domain: a checkpoint and a picture to start from."""
    folder = tmp_path_factory.mktemp("published")

    def get(env):
        robot = ROBOTS[ROBOT_OF[env]]
        checkpoint, picture = folder / f"{robot.name}.ckpt", folder / f"{robot.name}.png"
        if not picture.exists():
            write_random(RandomCheckpointConfig(str(checkpoint), robot.name))
            pixels = np.random.default_rng(0).integers(0, 256, (*robot.frame_size, 3), np.uint8)
            Image.fromarray(pixels).save(picture)
        return {"checkpoint": str(checkpoint), "start": str(picture), "sampler": QUICK}

    return get


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized.*")
@pytest.mark.parametrize(
    "env",
    [  # one domain is quick enough for the default run
        pytest.param(env, marks=() if "RT1" in env else pytest.mark.slow) for env in ROBOT_OF
    ],
)
def test_gymnasium_accepts_it(made, env):
    environment = gym.make(env, **made(env))
    check_env(environment.unwrapped, skip_render_check=True)
    robot = ROBOTS[ROBOT_OF[env]]
    assert environment.observation_space.shape == (*robot.frame_size, 3)
    assert environment.action_space.shape == (robot.action_size,)
    assert environment.metadata["render_fps"] == robot.control_hz


def test_the_agent_sees_the_camera_without_the_bars(made):
    env = gym.make("Vid2World-RT1-v0", **made("Vid2World-RT1-v0"))
    env.reset(seed=0)
    frame = env.step(ROBOTS["google_robot"].make_action())[0]
    assert frame.shape == (256, 320, 3)
    assert frame[:, :2].std() > 1 and frame[:, -2:].std() > 1  # a bar would be of one colour


def test_window_and_context_are_as_configured(made):
    env = "Vid2World-CSGO-v0"
    made_env = gym.make(env, **made(env), window=3, context_frames=2)
    made_env.reset(seed=0)
    robot = ROBOTS["csgo_player"]
    for step in range(2):
        made_env.step(robot.moves["W"])
        attempt = made_env.unwrapped.attempt
        lengths = attempt.batch.lengths.tolist()
        assert (attempt.context_frames, lengths) == (2, [3]), step


def test_slot_i_is_the_scalar_environment(made):
    arguments = made("Vid2World-RT1-v0")
    action = ROBOTS["google_robot"].make_action(world_vector=0.1)
    envs = gym.make_vec("Vid2World-RT1-v0", num_envs=2, **arguments)
    envs.reset(seed=7)
    frames = envs.step(np.stack([action] * 2))[0]
    env = gym.make("Vid2World-RT1-v0", **arguments)
    env.reset(seed=8)
    assert np.abs(env.step(action)[0].astype(int) - frames[1]).max() <= 1
    assert not np.array_equal(frames[0], frames[1])


def test_presets_differ(made):
    def first_frame(preset, **sampler):
        arguments = made("Vid2World-RT1-v0") | {"preset": preset, "sampler": sampler}
        env = gym.make("Vid2World-RT1-v0", **arguments)
        env.reset(seed=0)
        return env.step(ROBOTS["google_robot"].make_action())[0]

    clean, reference = first_frame("clean", steps=2), first_frame("reference", steps=2)
    assert not np.array_equal(clean, reference)


def test_another_domains_checkpoint_is_refused(made):
    with pytest.raises(ValueError, match="expected a world model of csgo_player, found one of"):
        gym.make("Vid2World-CSGO-v0", checkpoint=made("Vid2World-RT1-v0")["checkpoint"])
