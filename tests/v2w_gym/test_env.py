"""The scalar environment: Gymnasium's interface, errors, determinism, success."""

import copy
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from v2w_gym import making
from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.configs.world_model import WorldModelSettings
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.judges import loading as judges
from v2w_gym.starts import bundled_starts
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.state import FrameNoise

ID = "Vid2World-RT1-v0"
WEIGHTS = Path(making.__file__).parents[1] / "world_models" / "weights" / "standin.safetensors"


def test_import_is_light():
    heavy = "{'torch', 'mujoco', 'pandas', 'v2w_gym.env'}"
    code = f"import sys, v2w_gym; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_module_spelling_registers_on_import():
    code = "import gymnasium as gym; gym.make('v2w_gym:StandinSawyer-v0', task='close_drawr')"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "did you mean 'close_drawer'?" in failed.stderr


def test_horizon():
    assert {gym.spec(name).max_episode_steps for name in (ID, "StandinSawyer-v0")} == {20}


def test_check_env_is_clean(bundled):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID, checkpoint="any", render_mode="rgb_array").unwrapped)


def test_spec_survives_json(bundled):
    env = gym.make(ID, checkpoint="some/where", task="open_drawer", start=3)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert bundled == [WorldModelSettings("some/where")] * 2
    observations = [made.reset(seed=5)[0] for made in (env, again)]
    np.testing.assert_array_equal(*observations)
    np.testing.assert_array_equal(observations[0], bundled_starts("open_drawer")[3].frame)


def test_bundled_model_says_so_once(bundled):
    making._warn_of_bundled.cache_clear()
    with pytest.warns(UserWarning, match="checkpoint="):
        gym.make(ID)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gym.make(ID)


@pytest.mark.skipif(not WEIGHTS.exists(), reason=f"the bundled weights are not at {WEIGHTS}")
@pytest.mark.filterwarnings("ignore:using the small bundled")
def test_made_without_arguments_it_imagines_a_frame(act):
    env = gym.make(ID)
    first, _ = env.reset(seed=0)
    second, reward, terminated, truncated, _ = env.step(act(x=0.05))
    assert second.shape == (64, 64, 3) and (reward, terminated, truncated) == (0.0, False, False)
    assert (first != second).any()


def test_copy_last_shows_the_start_for_ever(act):
    env = Vid2WorldEnv(CopyLast(STANDIN_SAWYER), start=7)
    frame, _ = env.reset(seed=0)
    np.testing.assert_array_equal(frame, bundled_starts("close_drawer")[7].frame)
    for _ in range(10):
        np.testing.assert_array_equal(env.step(act(x=0.05))[0], frame)


def test_time_limit_truncates_at_the_horizon(bundled, act):
    env = gym.make(ID, checkpoint="any")
    env.reset(seed=0)
    endings = [env.step(act())[2:4] for _ in range(20)]
    assert endings == [(False, False)] * 19 + [(False, True)]


def test_record_video(bundled, act, tmp_path):
    pytest.importorskip("moviepy", reason="RecordVideo needs moviepy")
    env = gym.make(ID, checkpoint="any", render_mode="rgb_array", max_episode_steps=3)
    env = gym.wrappers.RecordVideo(env, str(tmp_path), episode_trigger=lambda episode: True)
    env.reset(seed=0)
    for _ in range(3):
        env.step(act())
    env.close()
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["rl-video-episode-0.mp4"]


def rollout(env, steps, **reset):
    frames = [env.reset(**reset)[0]]
    rng = np.random.default_rng(0)
    for _ in range(steps):
        frames.append(env.step(rng.uniform(STANDIN_SAWYER.low, STANDIN_SAWYER.high))[0])
    return np.stack(frames)


def test_same_seed_same_rollout(world):
    one, two = Vid2WorldEnv(world), Vid2WorldEnv(world)
    rollout(two, 3, seed=9)
    np.testing.assert_array_equal(rollout(one, 6, seed=4), rollout(two, 6, seed=4))


def test_episodes_differ_and_can_be_named(world):
    env = Vid2WorldEnv(world, start=0)
    episodes = [rollout(env, 2, seed=4), rollout(env, 2), rollout(env, 2)]
    np.testing.assert_array_equal(episodes[0][0], episodes[1][0])
    assert (episodes[0][1] != episodes[1][1]).any() and (episodes[1][1] != episodes[2][1]).any()
    named = rollout(Vid2WorldEnv(world, start=0), 2, seed=4, options={"episode": 2, "x": 1})
    np.testing.assert_array_equal(named, episodes[2])


def test_a_copy_shares_the_world_model(world):
    for env in (Vid2WorldEnv(world), Vid2WorldVectorEnv(2, 5, world)):
        env.reset(seed=0)
        assert copy.deepcopy(env).simulation.model is world


def test_unseeded_environments_differ(world):
    infos = [Vid2WorldEnv(world).reset()[1] for _ in range(2)]
    assert infos[0]["seed"] != infos[1]["seed"] and infos[0]["episode_index"] == 0


def test_drawn_starts_vary_and_belong_to_the_task(world):
    env = Vid2WorldEnv(world, task="open_drawer")
    known = {start.frame.tobytes() for start in bundled_starts("open_drawer")}
    drawn = {env.reset(seed=seed)[0].tobytes() for seed in range(20)}
    assert drawn <= known and len(drawn) > 10


def test_options_name_task_and_start(world):
    env = Vid2WorldEnv(world, start=1)
    frame, info = env.reset(seed=0, options={"task": "open_drawer", "start": 2})
    np.testing.assert_array_equal(frame, bundled_starts("open_drawer")[2].frame)
    assert info["instruction"] == env.task_description == "open the drawer"
    assert env.task == "open_drawer"
    env.reset()
    assert env.task == "close_drawer"


def test_success_needs_two_frames_in_a_row(world, judge, act):
    env = Vid2WorldEnv(world, judge=judge)
    _, info = env.reset(seed=0)
    assert (info["success"], info["is_success"]) == (False, False)
    steps = [env.step(act(close=close)) for close in (1, 0, 1, 1)]
    assert [step[1] for step in steps] == [0, 0, 0, 1]
    assert [step[2] for step in steps] == [False, False, False, True]
    assert [step[4]["success"] for step in steps] == [False, False, False, True]
    assert all(type(step[4]["is_success"]) is bool for step in steps)
    assert judge.calls[-1] == ((1, 5, 64, 64, 3), "close_drawer")


def test_a_start_that_is_solved_already_gives_a_warning_and_is_no_success(world, act, tmp_path):
    white = np.full((64, 64, 3), 255, np.uint8)
    np.save(tmp_path / "solved.npy", white)

    class White:
        def success(self, frames, task):
            return frames[:, -1].min(axis=(1, 2, 3)) > -1  # solved in every frame

    env = Vid2WorldEnv(world, start=str(tmp_path / "solved.npy"), judge=White())
    with pytest.warns(UserWarning, match="solved already at the start"):
        _, info = env.reset(seed=0)
    assert (info["solved_at_start"], info["success"]) == (True, False)
    for _ in range(4):
        _, reward, terminated, _, info = env.step(act())
        assert (reward, terminated, info["is_success"]) == (0.0, False, False)
    assert info["solved_at_start"]


def test_without_a_judge_info_has_no_success(world, act):
    env = Vid2WorldEnv(world, judge=None)
    _, info = env.reset(seed=0)
    for _ in range(3):
        assert not {"success", "is_success", "solved_at_start"} & set(info)
        _, reward, terminated, _, info = env.step(act(close=1))
        assert (reward, terminated) == (0.0, False)


@pytest.mark.parametrize(
    "judge", ["default", "bundled", str(judges.BUNDLED_JUDGES[STANDIN_SAWYER.name])]
)
def test_a_judge_can_be_named_in_json(bundled, judge, act):
    """The bundled judge, by default too: a drawer that is open is closed in no frame."""
    env = gym.make(ID, checkpoint="any", judge=judge, start=3)
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    for made in (env, again):
        _, info = made.reset(seed=0)
        assert (info["success"], info["solved_at_start"]) == (False, False)
        assert made.step(act())[4]["is_success"] is False


def test_a_robot_without_a_bundled_judge_has_none_and_says_how_to_get_one(tmp_path, frames_of):
    judges._warn_of_no_judge.cache_clear()
    np.save(tmp_path / "frame.npy", frames_of(GOOGLE_ROBOT))
    start = str(tmp_path / "frame.npy")
    with pytest.warns(UserWarning, match=r"no judge of robot 'google_robot'.*judge=PATH"):
        env = Vid2WorldEnv(CopyLast(GOOGLE_ROBOT), start=start)
    assert "success" not in env.reset(seed=0)[1]
    with pytest.raises(
        ValueError, match=r"judge of robot 'google_robot', found bundled judges of \['standin"
    ):
        Vid2WorldEnv(CopyLast(GOOGLE_ROBOT), start=start, judge="bundled")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Vid2WorldEnv(CopyLast(GOOGLE_ROBOT), start=start, judge=None).robot is GOOGLE_ROBOT


def test_the_policy_may_end_the_attempt(world, act):
    env = Vid2WorldEnv(world)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(act(end=True))
    assert (reward, terminated, truncated, info["success"]) == (0.0, True, False, False)


def test_frames_are_the_callers_to_change(world, act):
    env = Vid2WorldEnv(world, start=0)
    env.reset(seed=0)[0][:] = 0
    env.render()[:] = 0
    np.testing.assert_array_equal(env.render(), bundled_starts("close_drawer")[0].frame)


@pytest.mark.parametrize("strict", [False, True])
def test_wrong_actions(world, act, strict):
    env = Vid2WorldEnv(world, strict_actions=strict)
    env.reset(seed=0)
    before = env.render()
    for action in (np.zeros(5), np.zeros((1, 13)), np.float32(0)):
        with pytest.raises(ValueError, match=r"expected an action of shape \(13,\)"):
            env.step(action)
    for value in (np.nan, np.inf):
        with pytest.raises(
            ValueError, match=rf"expected a finite world_vector\[0\].*found {value}"
        ):
            env.step(act(x=value))
    if strict:
        with pytest.raises(ValueError, match=r"world_vector\[0\] in \[-0.05, 0.05\].*found 0.2"):
            env.step(act(x=0.2))
    np.testing.assert_array_equal(env.render(), before)


def test_what_is_out_of_bounds_is_clipped_warned_of_once_and_counted(world, act):
    env, exact = Vid2WorldEnv(world, start=0), Vid2WorldEnv(world, start=0)
    for made in (env, exact):
        made.reset(seed=0)
    with pytest.warns(UserWarning, match=r"world_vector\[0\] = 22.09, not in \[-0.05, 0.05\]"):
        frame, *_, info = env.step(act(x=22.09))
    np.testing.assert_array_equal(frame, exact.step(act(x=0.05))[0])
    assert info["actions_clipped"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert env.step(act(x=-1))[4]["actions_clipped"] == 2
        assert env.step(act(x=0.01))[4]["actions_clipped"] == 2
    assert env.reset()[1]["actions_clipped"] == 0


@pytest.mark.parametrize("silent", [(0, 0, 0), (0.9, 0.1, 0), (1, 1, 1), (3, 0, 0)])
def test_an_action_that_does_not_say_how_to_go_on_goes_on(world, act, silent):
    env, exact = Vid2WorldEnv(world, start=0), Vid2WorldEnv(world, start=0)
    for made in (env, exact):
        made.reset(seed=0)
    action = act(x=0.03)
    action[world.robot.slices["terminate_episode"]] = silent
    frame, _, terminated, _, info = env.step(action)
    np.testing.assert_array_equal(frame, exact.step(act(x=0.03))[0])
    assert not terminated and info["actions_not_one_hot"] == 1 and info["actions_clipped"] == 0


def test_zeros_are_neutral_also_through_a_rescaling(world, act):
    """Zeros in the robot's units and the middle of its bounds in [-1, 1] are rest."""
    plain, rescaled = Vid2WorldEnv(world, start=0), Vid2WorldEnv(world, start=0)
    rescaled = gym.wrappers.RescaleAction(rescaled, np.float32(-1), np.float32(1))
    resting = Vid2WorldEnv(world, start=0)
    for env in (plain, rescaled, resting):
        env.reset(seed=0)
    for _ in range(12):
        frame = resting.step(act())[0]
        for env in (plain, rescaled):
            found, _, terminated, _, info = env.step(np.zeros(13, np.float32))
            np.testing.assert_array_equal(found, frame)
            assert not terminated
    assert info["actions_clipped"] == 0


def test_sampled_actions_do_not_end_an_attempt(world):
    env = Vid2WorldEnv(world, judge=None)
    env.action_space.seed(0)
    env.reset(seed=0)
    assert not any(env.step(env.action_space.sample())[2] for _ in range(200))


def test_a_wish_to_end_can_be_ignored(world, act):
    env, exact = Vid2WorldEnv(world, start=0, terminate="ignore"), Vid2WorldEnv(world, start=0)
    for made in (env, exact):
        made.reset(seed=0)
    frame, _, terminated, _, _ = env.step(act(x=0.03, end=True))
    assert not terminated
    np.testing.assert_array_equal(frame, exact.step(act(x=0.03))[0])


@pytest.mark.parametrize("use", ["step", "render"])
def test_reset_comes_first(world, act, use):
    env = Vid2WorldEnv(world)
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(act()) if use == "step" else env.render()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"task": "close_drawr"}, ValueError, "did you mean 'close_drawer'"),
        ({"start": 60}, ValueError, "from 0 to 59"),
        ({"start": -1}, ValueError, "from 0 to 59"),
        ({"start": "no/such.png"}, FileNotFoundError, "no/such.png"),
        ({"checkpoint": "x"}, ValueError, "both .*checkpoint='x'"),
        ({"preset": "clean"}, ValueError, "both .*preset='clean'"),
        ({"sampler": {"steps": 2}}, ValueError, "both .*sampler"),
        ({"device": "cpu"}, ValueError, "both .*device='cpu'"),
        ({"task": "play"}, ValueError, "found 'play', a task of csgo_player"),
        ({"render_mode": "human"}, ValueError, "rgb_array"),
        ({"terminate": "stopp"}, ValueError, "did you mean 'stop'"),
        ({"judge": "bundeled"}, ValueError, "judge to be 'default', 'bundled', the path"),
        ({"judge": 3}, ValueError, r"success\(frames, task\)"),
        ({"judge": "no/such.safetensors"}, FileNotFoundError, "expected a judge at no/such"),
    ],
)
def test_wrong_arguments(world, arguments, error, text):
    with pytest.raises(error, match=text):
        Vid2WorldEnv(world, **arguments)


def test_a_start_of_another_size(tmp_path):
    np.save(tmp_path / "start.npy", np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match=r"start.npy' does not fit.*64, 64, 3"):
        Vid2WorldEnv(CopyLast(STANDIN_SAWYER), start=str(tmp_path / "start.npy"))


@pytest.fixture
def clip(tmp_path, frames_of, act):
    """A recording of six frames and the path of its file."""
    frames = frames_of(STANDIN_SAWYER, 6)
    actions = np.stack([act(x=t / 200) for t in range(6)])
    np.savez(tmp_path / "clip.npz", image=frames, action=actions)
    return frames, actions, str(tmp_path / "clip.npz")


def test_a_model_that_begins_with_more_frames_gets_them(many_frames, clip, act):
    frames, actions, path = clip
    env = Vid2WorldEnv(many_frames, start=path)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation, frames[2])
    given, between, noise_frames = many_frames.begun[-1]
    np.testing.assert_array_equal(given[0], frames[:3])
    np.testing.assert_array_equal(between[0], actions[:2])
    assert noise_frames == (2,)


def test_steps_count_the_policys_actions_alone(many_frames, clip, judge, act):
    env = gym.wrappers.TimeLimit(Vid2WorldEnv(many_frames, start=clip[2], judge=judge), 4)
    env.reset(seed=0)
    endings = [env.step(act())[2:4] for _ in range(4)]
    assert endings == [(False, False)] * 3 + [(False, True)]
    assert judge.calls[1] == ((1, 4, 64, 64, 3), "close_drawer")


def test_a_new_frames_noise_is_that_of_its_index(many_frames, clip, act, monkeypatch):
    env = Vid2WorldEnv(many_frames, start=clip[2])
    env.reset(seed=9, options={"episode": 4})
    used, step = [], many_frames.step
    monkeypatch.setattr(many_frames, "step", lambda *a: used.append(a[2]) or step(*a))
    env.step(act())
    env.step(act())
    assert used == [FrameNoise((9,), (4,), (3,)), FrameNoise((9,), (4,), (4,))]


def test_a_drawn_start_is_held_still_for_a_model_that_begins_with_more(many_frames):
    frame, _ = Vid2WorldEnv(many_frames).reset(seed=3)
    given, between, _ = many_frames.begun[-1]
    assert (given[0] == frame).all() and given.shape == (1, 3, 64, 64, 3)
    np.testing.assert_array_equal(between[0], [STANDIN_SAWYER.make_action()] * 2)
