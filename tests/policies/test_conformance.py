"""What every policy must do, whatever it is."""

from pathlib import Path

import numpy as np
import pytest

from configs.robots import ROBOTS, STANDIN_SAWYER
from policies.base import Policy
from policies.rt1.policy import RT1Policy
from policies.scripted import random_policy, replay_policy, zero_policy

TOLD = ["close the drawer", "open the drawer", "close the drawer"]
SEEDS = [3, 4, 5]
ALL = np.ones(3, bool)


@pytest.fixture(params=["zero", "random", "replay", "rt1"])
def policy(request: pytest.FixtureRequest, episodes: Path, network, table) -> Policy:
    makers = {
        "zero": lambda: zero_policy(STANDIN_SAWYER),
        "random": lambda: random_policy(STANDIN_SAWYER),
        "replay": lambda: replay_policy(episodes / "episode_0.npz", STANDIN_SAWYER),
        "rt1": lambda: RT1Policy(network, STANDIN_SAWYER, table, "tiny"),
    }
    return makers[request.param]()


def roll(policy: Policy, frames: np.ndarray, told=TOLD, seeds=SEEDS) -> np.ndarray:
    policy.reset(told, seeds=seeds)
    return np.stack([policy.act(now, np.ones(len(told), bool)) for now in frames])


def test_actions_are_what_the_robot_executes(policy: Policy, frames: np.ndarray):
    robot = ROBOTS[policy.meta.robot]
    actions = roll(policy, frames)
    assert actions.dtype == np.float32
    for now in actions:
        robot.check_actions(now)


def test_reset_forgets_everything(policy: Policy, frames: np.ndarray):
    first = roll(policy, frames)
    roll(policy, frames[::-1], told=TOLD[::-1], seeds=[7, 8, 9])
    assert (roll(policy, frames) == first).all()


def test_a_slot_acts_the_same_alone(policy: Policy, frames: np.ndarray):
    together = roll(policy, frames)
    for slot in range(3):
        alone = roll(policy, frames[:, [slot]], told=[TOLD[slot]], seeds=[SEEDS[slot]])
        assert (alone[:, 0] == together[:, slot]).all()


def test_an_inactive_slot_rests_and_remembers_nothing_of_it(policy: Policy, frames: np.ndarray):
    expected = roll(policy, frames[1:])[:, 1]
    policy.reset(TOLD, seeds=SEEDS)
    paused = policy.act(frames[0], np.array([True, False, True]))
    assert (paused[1] == STANDIN_SAWYER.make_action()).all()
    resumed = np.stack([policy.act(now, ALL)[1] for now in frames[1:]])
    assert (resumed == expected).all()


def test_frames_are_not_changed(policy: Policy, frames: np.ndarray):
    before = frames.copy()
    roll(policy, frames)
    assert (frames == before).all()


def test_wrong_inputs_are_refused(policy: Policy, frames: np.ndarray):
    policy.reset(TOLD, seeds=SEEDS)
    with pytest.raises(ValueError, match="expected uint8 frames"):
        policy.act(frames[0].astype(np.float32), ALL)
    with pytest.raises(ValueError, match="in 3 slots"):
        policy.act(frames[0][:2], ALL[:2])
    with pytest.raises(ValueError, match=r"expected a bool mask of shape \(3,\)"):
        policy.act(frames[0], np.ones(2, bool))
    with pytest.raises(ValueError, match="expected a bool mask"):
        policy.act(frames[0], np.ones(3))
    with pytest.raises(ValueError, match="3 instructions and 2 seeds"):
        policy.reset(TOLD, seeds=[1, 2])
