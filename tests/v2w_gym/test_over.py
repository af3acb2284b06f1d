"""An attempt ends once, also where a slot that is over may still be stepped."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from v2w_gym.vector_env import Vid2WorldVectorEnv


@pytest.fixture
def envs(world, judge):
    return Vid2WorldVectorEnv(2, 5, world, judge=judge, autoreset_mode=AutoresetMode.DISABLED)


def test_statistics_count_an_attempt_once(envs, act):
    counted = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    for _ in range(2):
        counted.reset(seed=0)
        for _ in range(8):
            counted.step(np.stack([act(close=1), act()]))
    assert counted.episode_count == 4
    assert list(counted.return_queue) == [1, 0, 1, 0] and list(counted.length_queue) == [2, 5, 2, 5]


def test_an_end_is_flagged_once_and_over_stays_true(envs, act):
    envs.reset(seed=0)
    steps = [envs.step(np.stack([act(close=1), act()])) for _ in range(7)]
    assert [step[2].tolist() for step in steps] == [[i == 1, False] for i in range(7)]
    assert [step[3].tolist() for step in steps] == [[False, i == 4] for i in range(7)]
    assert [step[1].tolist() for step in steps] == [[i == 1, 0] for i in range(7)]
    assert [step[4]["over"].tolist() for step in steps] == [[i >= 1, i >= 4] for i in range(7)]
    assert [step[4]["success"].tolist() for step in steps] == [[i >= 1, False] for i in range(7)]


def test_a_reset_slot_is_not_over(envs, act):
    envs.reset(seed=0)
    for _ in range(5):
        envs.step(np.stack([act(close=1), act()]))
    envs.reset(options={"reset_mask": np.array([True, False])})
    info = envs.step(np.stack([act(), act()]))[4]
    assert info["over"].tolist() == [False, True] and info["episode_index"].tolist() == [1, 0]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_where_slots_begin_anew_nothing_is_over(world, act, mode):
    envs = Vid2WorldVectorEnv(2, 2, world, autoreset_mode=mode)
    assert "over" not in envs.reset(seed=0)[1]
    assert not any("over" in envs.step(np.stack([act(), act()]))[4] for _ in range(3))
