"""Recorded actions: fitted as any action is, and what they lacked counted over all episodes."""

import numpy as np
import pytest

from v2w_gym.configs.robots import CSGO_PLAYER, GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.world_models.data.recorded_actions import (
    NO_MISFITS,
    execute_known,
    execute_recorded,
    warn_of,
)


def resting(robot, steps):
    return np.tile(robot.make_action(), (steps, 1))


def test_actions_within_the_bounds_are_as_they_were(caplog):
    actions = resting(STANDIN_SAWYER, 20)
    actions[:, 10:] = np.random.default_rng(0).uniform(-0.05, 0.05, (20, 3))
    fitted, misfits = execute_recorded(actions, STANDIN_SAWYER, "a.npz")
    np.testing.assert_array_equal(fitted, actions)
    assert (misfits.episodes, misfits.values, misfits.clipped, misfits.not_one_hot) == (
        1,
        260,
        0,
        0,
    )
    warn_of(misfits, "a.npz")
    assert not caplog.text


def test_what_two_episodes_lacked(caplog):
    first, second = resting(GOOGLE_ROBOT, 6), resting(GOOGLE_ROBOT, 4)
    first[3, 11] = 22.09
    second[0, 4:7], second[1, 7:10] = (2, -2, 1.6), 0
    one, lacked = execute_recorded(first, GOOGLE_ROBOT, "a.npz")
    two, lacked_too = execute_recorded(second, GOOGLE_ROBOT, "b.npz")
    assert one[3, 11] == 1
    half_turn = np.float32(np.pi / 2)
    assert two[0, 4:7].tolist() == [half_turn, -half_turn, half_turn]
    assert two[1, 7:10].tolist() == [0, 1, 0]
    warn_of(lacked + lacked_too, "data")
    assert caplog.messages == [
        "recorded actions of data: 4 of 130 values in 2 of 2 episodes were beyond the robot's "
        "bounds (such as world_vector[1] = 22.09) and were clipped; 1 actions in 1 of 2 episodes "
        "had a field that was not one-hot and was set to rest"
    ]
    assert lacked + NO_MISFITS == lacked


@pytest.mark.parametrize(
    ("robot", "move", "factor"),
    [
        (STANDIN_SAWYER, {"world_vector": 0.03}, 1000),
        (GOOGLE_ROBOT, {"world_vector": 0.02}, 1000),
        (GOOGLE_ROBOT, {"rotation_delta": 0.1}, 180 / np.pi),
        (CSGO_PLAYER, {"keys": 1}, 255),
    ],
)
def test_most_actions_far_outside_are_in_other_units(robot, move, factor):
    actions = resting(robot, 9)
    place = robot.slices[next(iter(move))]
    actions[:5] = robot.make_action(**move)
    actions[:5, place] *= factor
    with pytest.raises(ValueError, match=r"of a.npz do not fit: .* 5 of 9 actions .* units first"):
        execute_recorded(actions, robot, "a.npz")
    actions[4] = robot.make_action()
    assert execute_recorded(actions, robot, "a.npz")[1].clipped_episodes == 1


def test_a_few_actions_do_not_tell_other_units_from_outliers():
    fitted, misfits = execute_recorded(
        GOOGLE_ROBOT.make_action(world_vector=30)[None], GOOGLE_ROBOT, "a.npz"
    )
    assert fitted[0, 10:].tolist() == [1, 1, 1] and misfits.clipped == 3


def test_actions_that_are_not_known_stay_unknown():
    actions = resting(STANDIN_SAWYER, 3)
    actions[0], actions[1, 12] = np.nan, -1
    fitted, misfits = execute_known(actions, STANDIN_SAWYER, "a.npz")
    assert np.isnan(fitted[0]).all() and fitted[1, 12] == np.float32(-0.05)
    assert (misfits.values, misfits.clipped) == (26, 1)
    nothing, _ = execute_known(np.full((2, 13), np.nan), STANDIN_SAWYER, "a.npz")
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("fit", [execute_recorded, execute_known])
@pytest.mark.parametrize(
    ("wrong", "found"), [(np.nan, r"gripper.* nan in row 1"), (np.inf, "inf in row 1")]
)
def test_what_is_no_number_is_refused(fit, wrong, found):
    actions = resting(STANDIN_SAWYER, 3)
    actions[1, 3] = wrong
    with pytest.raises(ValueError, match=f"of a.npz do not fit: .*{found}"):
        fit(actions, STANDIN_SAWYER, "a.npz")
