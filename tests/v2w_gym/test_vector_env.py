"""The vector environment: equal to the scalar one slot by slot, and Gymnasium's autoreset."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from v2w_gym import starts
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.world_model import WorldModelSettings
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.starts import bundled_starts
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast

MODES = list(AutoresetMode)


def random_actions(rng, count):
    return rng.uniform(STANDIN_SAWYER.low, STANDIN_SAWYER.high, (count, 13)).astype(np.float32)


def calm(actions):
    """The same actions, none of which ends the attempt or closes the gripper."""
    actions = actions.copy()
    actions[:, STANDIN_SAWYER.slices["terminate_episode"]] = [0, 1, 0]
    actions[:, STANDIN_SAWYER.slices["gripper_closedness_action"]] = 0
    return actions


@pytest.fixture(params=["noisy", "copy_last"])
def any_world(request, world):
    return world if request.param == "noisy" else CopyLast(STANDIN_SAWYER)


def assert_same(one, two):
    """Compare nested infos, observations and flags."""
    if isinstance(one, dict):
        assert set(one) == set(two)
        for name in one:
            assert_same(one[name], two[name])
    elif isinstance(one, tuple) or (isinstance(one, np.ndarray) and one.dtype == object):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_it_does_what_gymnasium_does_with_scalar_environments(any_world, judge, mode):
    """Three slots, 60 steps: policies end attempts, judges end attempts, time ends attempts."""

    def scalar():
        return gym.wrappers.TimeLimit(Vid2WorldEnv(any_world, judge=judge), 7)

    ours = Vid2WorldVectorEnv(3, 7, any_world, judge=judge, autoreset_mode=mode)
    theirs = SyncVectorEnv([scalar] * 3, autoreset_mode=mode)
    rng = np.random.default_rng(0)
    assert_same(ours.reset(seed=11), theirs.reset(seed=11))
    endings = np.zeros(3)
    for _ in range(60):
        actions = calm(random_actions(rng, 3))
        actions[:, STANDIN_SAWYER.slices["gripper_closedness_action"]] = rng.random((3, 1)) < 0.3
        ending = rng.random(3) < 0.1
        actions[ending, STANDIN_SAWYER.slices["terminate_episode"]] = [1, 0, 0]
        results = ours.step(actions), theirs.step(actions)
        assert_same(*results)
        endings += [column.sum() for column in results[0][1:4]]
    assert ours.metadata["autoreset_mode"] is mode
    solved, terminated, truncated = endings
    assert terminated > solved and truncated > 0
    assert solved > 0 or isinstance(any_world, CopyLast)


def test_a_slot_is_the_same_alone(world):
    rng = np.random.default_rng(1)
    actions = [calm(random_actions(rng, 4)) for _ in range(6)]
    many = Vid2WorldVectorEnv(4, 20, world)
    batch = [many.reset(seed=5)[0], *(many.step(a)[0] for a in actions)]
    for slot in (0, 3):
        one = Vid2WorldEnv(world)
        alone = [one.reset(seed=5 + slot)[0], *(one.step(a[slot])[0] for a in actions)]
        np.testing.assert_array_equal(np.stack(batch)[:, slot], np.stack(alone))


def test_a_slot_is_the_same_next_to_slots_that_began_earlier(world):
    rng = np.random.default_rng(1)
    actions = [calm(random_actions(rng, 3)) for _ in range(3)]
    env = Vid2WorldVectorEnv(3, 20, world, autoreset_mode=AutoresetMode.DISABLED)
    first = [env.reset(seed=5)[0], *(env.step(a)[0] for a in actions)]
    mask = np.array([False, True, False])
    late = [env.reset(seed=5, options={"reset_mask": mask})[0], *(env.step(a)[0] for a in actions)]
    np.testing.assert_array_equal(np.stack(first)[:, 1], np.stack(late)[:, 1])
    assert (late[3][0] != first[3][0]).any()
    assert world.batches == 6 * [3]  # one call of the model, though the slots differ in age


def test_a_slot_may_have_its_own_start_task_episode_and_seed(world, act):
    env = Vid2WorldVectorEnv(2, 20, world)
    options = {"starts": [4, 9], "tasks": ["close_drawer", "open_drawer"], "episodes": [0, 6]}
    frames, info = env.reset(seed=[3, 30], options={**options, "not an option": 1})
    np.testing.assert_array_equal(frames[1], bundled_starts("open_drawer")[9].frame)
    assert info["instruction"].tolist() == ["close the drawer", "open the drawer"]
    assert info["episode_index"].tolist() == [0, 6] and info["seed"].tolist() == [3, 30]
    frames = env.step(np.stack([act(), act()]))[0]
    alone = Vid2WorldEnv(world, task="open_drawer", start=9)
    alone.reset(seed=30, options={"episode": 6})
    np.testing.assert_array_equal(frames[1], alone.step(act())[0])


@pytest.fixture
def clips(tmp_path, frames_of):
    """Paths of a picture, a clip of two frames and one of five."""
    for count in (1, 2, 5):
        np.save(tmp_path / f"{count}.npy", frames_of(STANDIN_SAWYER, count))
    return [str(tmp_path / f"{count}.npy") for count in (1, 2, 5)]


def test_slots_may_begin_with_different_numbers_of_frames(many_frames, judge, clips):
    starts = [*clips, 7]
    env = Vid2WorldVectorEnv(4, 20, many_frames, judge=judge)
    actions = [calm(random_actions(np.random.default_rng(1), 4)) for _ in range(3)]
    batch = [env.reset(seed=5, options={"starts": starts})[0], *(env.step(a)[0] for a in actions)]
    assert [given[0].shape[:2] for given in many_frames.begun] == [(3, 3), (1, 2)]
    assert many_frames.batches == [4, 4, 4]
    assert [shape[:2] for (shape, _) in judge.calls[:4]] == [(3, 3), (1, 2), (3, 4), (1, 3)]
    for slot, start in enumerate(starts):
        one = Vid2WorldEnv(many_frames, start=start)
        alone = [one.reset(seed=5 + slot)[0], *(one.step(a[slot])[0] for a in actions)]
        np.testing.assert_array_equal(np.stack(batch)[:, slot], np.stack(alone))


def test_time_is_counted_from_the_first_action_in_every_slot(many_frames, clips, act):
    env = Vid2WorldVectorEnv(3, 2, many_frames)
    env.reset(seed=0, options={"starts": clips})
    endings = [env.step(np.stack([act()] * 3))[3].tolist() for _ in range(2)]
    assert endings == [[False] * 3, [True] * 3]


def test_a_file_that_all_slots_begin_with_is_read_once(world, clips, monkeypatch):
    read, reader = [], starts.read_one
    monkeypatch.setattr(starts, "read_one", lambda text: read.append(text) or reader(text))
    env = Vid2WorldVectorEnv(3, 20, world, start=clips[2])
    for _ in range(2):
        env.reset(seed=0)
    assert read == [str(clips[2])]


def test_an_option_may_hold_for_every_slot(world):
    frames, _ = Vid2WorldVectorEnv(2, 20, world).reset(seed=0, options={"start": 3})
    np.testing.assert_array_equal(frames, np.stack([bundled_starts("close_drawer")[3].frame] * 2))


def test_disabled_keeps_what_ended_and_spends_nothing_on_it(world, judge, act):
    env = Vid2WorldVectorEnv(2, 4, world, judge=judge, autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(2):
        frames, rewards, terminated, truncated, info = env.step(
            np.stack([act(close=1), act(x=0.05)])
        )
    assert terminated.tolist() == [True, False] and rewards.tolist() == [1, 0]
    ignored = np.full(13, np.nan, np.float32)
    for _ in range(2):
        later = env.step(np.stack([ignored, act()]))
    np.testing.assert_array_equal(later[0][0], frames[0])
    assert later[1].tolist() == [0, 0]
    assert later[2].tolist() == [False, False] and later[3].tolist() == [False, True]
    assert later[4]["success"].tolist() == [True, False]
    assert later[4]["over"].tolist() == [True, True]
    assert world.batches == [2, 2, 1, 1]
    env.step(np.stack([ignored, ignored]))
    assert world.batches == [2, 2, 1, 1]
    _, info = env.reset(options={"reset_mask": np.array([False, True])})
    assert info["over"].tolist() == [False, False] and info["_over"].tolist() == [False, True]


def test_different_tasks_are_judged_apart(world, judge, act):
    env = Vid2WorldVectorEnv(3, 20, world, judge=judge)
    env.reset(seed=0, options={"tasks": ["close_drawer", "open_drawer", "close_drawer"]})
    env.step(np.stack([act()] * 3))
    assert judge.calls == [
        ((2, frames, 64, 64, 3), "close_drawer")
        if several
        else ((1, frames, 64, 64, 3), "open_drawer")
        for frames in (1, 2)
        for several in (True, False)
    ]


def test_make_vec_uses_it(bundled, act):
    env = gym.make_vec("v2w_gym:Vid2World-RT1-v0", num_envs=2, checkpoint="x", task="open_drawer")
    assert isinstance(env, Vid2WorldVectorEnv) and bundled == [WorldModelSettings("x")]
    frames, info = env.reset(seed=0)
    assert frames in env.observation_space and info["_success"].all()
    assert info["success"].dtype == bool
    actions = env.action_space.sample()
    env = gym.make_vec("Vid2World-RT1-v0", num_envs=2, checkpoint="x", judge=None)
    env.reset(seed=0)
    endings = [env.step(calm(actions))[3].tolist() for _ in range(20)]
    assert endings == [[False, False]] * 19 + [[True, True]]
    env.close()
    env.close()


def test_make_vec_spec_makes_it_again(bundled):
    env = gym.make_vec("Vid2World-RT1-v0", num_envs=2, checkpoint="x", start=1)
    again = gym.make_vec(env.spec)
    assert again.num_envs == 2
    np.testing.assert_array_equal(again.reset(seed=0)[0], env.reset(seed=0)[0])


def test_minus_one_means_no_limit(bundled, act):
    env = gym.make_vec("Vid2World-RT1-v0", checkpoint="x", max_episode_steps=-1)
    env.reset(seed=0)
    assert not any(env.step(act()[None])[3].any() for _ in range(30))


def test_statistics_wrapper(world, judge, act):
    env = Vid2WorldVectorEnv(2, 20, world, judge=judge, autoreset_mode=AutoresetMode.SAME_STEP)
    env = gym.wrappers.vector.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.stack([act(close=1), act()]))
    assert list(env.return_queue) == [1.0] and list(env.length_queue) == [2]


def test_what_lerobot_calls(world):
    env = Vid2WorldVectorEnv(2, 20, world)
    assert env.call("task_description") == ("close the drawer",) * 2
    frames, _ = env.reset(seed=0, options={"tasks": ["close_drawer", "open_drawer"]})
    assert env.call("task_description") == ("close the drawer", "open the drawer")
    assert env.get_attr("task") == ("close_drawer", "open_drawer")
    assert env.call("_max_episode_steps") == (20, 20)
    np.testing.assert_array_equal(np.stack(env.call("render")), frames)
    with pytest.raises(AttributeError, match="did you mean 'task_description'"):
        env.call("task_descriptions")


def test_wrong_actions_name_the_slot_and_change_nothing(world, act):
    env = Vid2WorldVectorEnv(3, 20, world, strict_actions=True)
    before, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match=r"found 0.2 in row 2"):
        env.step(np.stack([act(), act(), act(x=0.2)]))
    with pytest.raises(ValueError, match=r"found nan in row 1"):
        env.step(np.stack([act(), act(x=np.nan), act()]))
    with pytest.raises(ValueError, match=r"expected actions of shape \(3, 13\), found \(2, 13\)"):
        env.step(np.stack([act(), act()]))
    np.testing.assert_array_equal(np.stack(env.render()), before)
    assert world.batches == []


@pytest.mark.filterwarnings("ignore:an action outside the bounds")
def test_each_slot_counts_its_own_actions(world, act):
    env = Vid2WorldVectorEnv(3, 20, world)
    env.reset(seed=0)
    silent = act()
    silent[world.robot.slices["terminate_episode"]] = 0
    for _ in range(2):
        info = env.step(np.stack([act(), act(x=0.2), silent]))[4]
    assert info["actions_clipped"].tolist() == [0, 2, 0]
    assert info["actions_not_one_hot"].tolist() == [0, 0, 2]


def test_reset_comes_first(world, act):
    env = Vid2WorldVectorEnv(2, 20, world)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.stack([act(), act()]))
    with pytest.raises(gym.error.ResetNeeded):
        env.reset(seed=0, options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize(
    ("reset", "text"),
    [
        ({"seed": [1, 2, 3]}, "seed for each of 2 slots, found 3"),
        ({"options": {"starts": [1]}}, "starts for each of 2 slots, found 1"),
        ({"options": {"starts": [1, 77]}}, "0 to 59"),
        ({"options": {"starts": [1, [2]]}}, r"number of a bundled start .* found \[2\]"),
        ({"options": {"start": {"file": 1}}}, "number of a bundled start .* found {'file': 1}"),
        ({"options": {"tasks": ["close_drawer", "opn_drawer"]}}, "did you mean 'open_drawer'"),
        ({"options": {"reset_mask": np.zeros(2, bool)}}, "at least one True"),
        ({"options": {"reset_mask": np.ones(3, bool)}}, r"shape \(2,\)"),
    ],
)
def test_wrong_resets(world, reset, text):
    with pytest.raises(ValueError, match=text):
        Vid2WorldVectorEnv(2, 20, world).reset(**reset)


@pytest.mark.parametrize("mask", [[True, True], np.ones(2, int), np.ones(2)])
def test_a_mask_that_is_no_array_of_bool_is_an_error_of_type(world, mask):
    for envs in (
        Vid2WorldVectorEnv(2, 20, world),
        SyncVectorEnv([lambda: Vid2WorldEnv(world)] * 2),
    ):
        with pytest.raises(TypeError, match="bool|array"):
            envs.reset(options={"reset_mask": mask})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_envs": "2"}, "num_envs='2'"),
        ({"num_envs": 2.5}, "num_envs=2.5"),
        ({"num_envs": True}, "num_envs=True"),
        ({"max_episode_steps": 0}, "max_episode_steps=0"),
        ({"autoreset_mode": "NextStp"}, "did you mean 'NextStep'"),
    ],
)
def test_wrong_arguments(world, arguments, text):
    with pytest.raises(ValueError, match=text):
        Vid2WorldVectorEnv(**{"num_envs": 2, "max_episode_steps": 20, "model": world, **arguments})


def test_a_slot_that_is_done_holds_nothing_and_costs_nothing(world):
    """The memory of a whole batch is not kept alive by one slot that ended."""
    envs = Vid2WorldVectorEnv(3, 9, world, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    actions = calm(random_actions(np.random.default_rng(0), 3))
    robot = world.robot
    actions[1] = robot.make_action(terminate_episode=[1, 0, 0])
    for _ in range(3):
        envs.step(actions)
    assert world.batches == [3, 2, 2]
    batches = [slot.attempt.batch for slot in envs.envs]
    assert batches[1] is None and batches[0] is batches[2] is not None
