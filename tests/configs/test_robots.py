"""The meaning of a robot's actions."""

import re

import numpy as np
import pytest

from v2w_gym.configs.robots import (
    CSGO_PLAYER,
    GOOGLE_ROBOT,
    RECON_JACKAL,
    ROBOTS,
    STANDIN_SAWYER,
    RobotSpec,
)

EACH_ROBOT = pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
EACH_ARM = pytest.mark.parametrize("robot", [GOOGLE_ROBOT, STANDIN_SAWYER], ids=lambda r: r.name)


def test_the_rt1_action_has_the_13_values_of_the_data_set_in_alphabetical_order() -> None:
    names = [field.name for field in GOOGLE_ROBOT.fields]
    assert names == sorted(names)
    assert GOOGLE_ROBOT.action_size == 13
    assert GOOGLE_ROBOT.slices["world_vector"] == slice(10, 13)
    assert GOOGLE_ROBOT.slices["gripper_closedness_action"] == slice(3, 4)
    assert GOOGLE_ROBOT.value_names[:3] == (
        "base_displacement_vector[0]",
        "base_displacement_vector[1]",
        "base_displacement_vertical_rotation[0]",
    )


def test_the_stand_in_has_the_same_layout_but_cannot_move_its_base_or_wrist() -> None:
    assert STANDIN_SAWYER.value_names == GOOGLE_ROBOT.value_names
    fixed = [field.name for field in STANDIN_SAWYER.fields if field.low == field.high]
    assert fixed == [
        "base_displacement_vector",
        "base_displacement_vertical_rotation",
        "rotation_delta",
    ]


def test_the_player_has_the_51_values_of_the_published_data_set() -> None:
    robot = CSGO_PLAYER
    assert (robot.action_size, robot.control_hz, robot.frame_size) == (51, 16, (150, 280))
    assert set(robot.low) == {0} and set(robot.high) == {1}
    places = {name: robot.value_names.index(name) for name in robot.value_names}
    assert (places["keys[w]"], places["keys[r]"]) == (0, 10)
    assert (places["left_click[0]"], places["right_click[0]"]) == (11, 12)
    assert (places["mouse_x[-1000]"], places["mouse_x[0]"], places["mouse_x[1000]"]) == (13, 24, 35)
    assert (places["mouse_y[-200]"], places["mouse_y[0]"], places["mouse_y[200]"]) == (36, 43, 50)


def test_a_mouse_at_rest_is_in_the_middle_bin() -> None:
    assert np.flatnonzero(CSGO_PLAYER.make_action()).tolist() == [13 + 11, 36 + 7]


def test_the_jackals_bounds_are_the_published_normalisation() -> None:
    robot = RECON_JACKAL
    assert (robot.action_size, robot.control_hz, robot.frame_size) == (3, 4, (480, 640))
    displacement = np.array([0.4, -0.3])
    least, most = np.array([-2.5, -4]), np.array([5, 4])
    published = 2 * (displacement / 0.25 - least) / (most - least) - 1
    low, high = robot.low[:2], robot.high[:2]
    np.testing.assert_allclose(2 * (displacement - low) / (high - low) - 1, published, rtol=1e-6)


@EACH_ROBOT
def test_an_action_that_names_nothing_can_be_executed_and_continues(robot: RobotSpec) -> None:
    action = robot.check_actions(robot.make_action()[None])
    assert not robot.terminates(action).any()


@EACH_ARM
def test_an_arm_at_rest_says_continue_and_nothing_else(robot: RobotSpec) -> None:
    action = robot.make_action()
    assert action[robot.slices["terminate_episode"]].tolist() == [0, 1, 0]
    assert np.abs(action).sum() == 1


@EACH_ARM
def test_only_the_first_value_of_the_terminate_field_ends_an_episode(robot: RobotSpec) -> None:
    ends = robot.make_action(terminate_episode=(1, 0, 0))
    assert robot.terminates(np.stack([ends, robot.make_action()])).tolist() == [True, False]


@EACH_ARM
@pytest.mark.parametrize(
    "mode",
    [(0, 0, 0), (1, 1, 1), (1, 1, 0), (0.5, 0.5, 0), (0.9, 0.05, 0.05), (1, 8, 0), (3, -1, -1)],
)
def test_what_is_not_one_hot_is_at_rest(robot: RobotSpec, mode: tuple[float, ...]) -> None:
    action = robot.make_action(terminate_episode=mode)
    assert not robot.terminates(action[None]).any()
    fitted = robot.clip_actions(action[None])
    np.testing.assert_array_equal(fitted.actions[0], robot.make_action())
    assert fitted.not_one_hot.tolist() == [True]
    assert not fitted.clipped.any()


@EACH_ARM
def test_a_one_hot_that_arithmetic_made_inexact_is_one(robot: RobotSpec) -> None:
    ends = robot.make_action(terminate_episode=(0.9995, 0.0004, -0.0004))
    assert robot.terminates(ends[None]).all()
    assert not robot.clip_actions(ends[None]).not_one_hot.any()


@EACH_ROBOT
def test_zeros_are_rest(robot: RobotSpec) -> None:
    zeros = np.zeros((1, robot.action_size), np.float32)
    fitted = robot.clip_actions(zeros)
    np.testing.assert_array_equal(fitted.actions[0], robot.make_action())
    assert not robot.terminates(fitted.actions).any()


def test_a_random_action_hardly_ever_ends_an_episode() -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(GOOGLE_ROBOT.low, GOOGLE_ROBOT.high, (100_000, 13)).astype(np.float32)
    assert not GOOGLE_ROBOT.terminates(actions).any()


@EACH_ARM
def test_a_wish_to_end_can_be_passed_over(robot: RobotSpec) -> None:
    ends = robot.make_action(terminate_episode=(1, 0, 0), gripper_closedness_action=0.5)
    rest = robot.make_action(terminate_episode=(0, 0, 1))
    going_on = robot.ignore_endings(np.stack([ends, rest]))
    np.testing.assert_array_equal(going_on[0], robot.make_action(gripper_closedness_action=0.5))
    np.testing.assert_array_equal(going_on[1], rest)
    assert robot.terminates(ends[None]).all()  # what was given is left as it was


def test_values_beyond_the_bounds_are_clipped_and_distinguished() -> None:
    robot = GOOGLE_ROBOT
    actions = np.stack([robot.make_action(world_vector=(22.09, -5.5, 0.2)), robot.make_action()])
    fitted = robot.clip_actions(actions)
    np.testing.assert_array_equal(
        fitted.actions[0], robot.make_action(world_vector=(1, -1, np.float32(0.2)))
    )
    assert np.argwhere(fitted.clipped).tolist() == [[0, 10], [0, 11]]
    assert not fitted.not_one_hot.any()
    np.testing.assert_array_equal(robot.check_actions(fitted.actions), fitted.actions)


@EACH_ROBOT
def test_moves_can_be_executed_and_differ_from_rest_in_one_field(robot: RobotSpec) -> None:
    rest = robot.make_action()
    for move in robot.moves.values():
        np.testing.assert_array_equal(robot.check_actions(move[None])[0], move)
        moved = [name for name, at in robot.slices.items() if (move[at] != rest[at]).any()]
        assert len(moved) == 1
    assert len({move.tobytes() for move in robot.moves.values()}) == len(robot.moves)


def test_moves_of_each_robot() -> None:
    np.testing.assert_array_equal(
        GOOGLE_ROBOT.moves["-Y"], GOOGLE_ROBOT.make_action(world_vector=(0, -0.1, 0))
    )
    assert list(GOOGLE_ROBOT.moves) == list(STANDIN_SAWYER.moves)
    assert list(GOOGLE_ROBOT.moves) == ["+X", "-X", "+Y", "-Y", "+Z", "-Z"]
    pressed = {label: np.flatnonzero(move).tolist() for label, move in CSGO_PLAYER.moves.items()}
    assert [pressed[key] for key in "WASD"] == [[k, 24, 43] for k in range(4)]
    assert pressed["mouse left"][0] < 24 < pressed["mouse right"][0]
    assert pressed["mouse up"][1] < 43 < pressed["mouse down"][1]
    assert RECON_JACKAL.moves["forward"].tolist() == [0.25, 0, 0]
    turns = [RECON_JACKAL.moves[f"turn {side}"][2] for side in ("left", "right")]
    assert turns[0] == -turns[1] > 0


def test_a_label_stands_for_a_one_at_its_place() -> None:
    action = CSGO_PLAYER.make_action(keys="a", left_click=1, mouse_y="-20")
    assert np.flatnonzero(action).tolist() == [1, 11, 24, 39]
    with pytest.raises(ValueError, match="expected keys to be one of .* found 'shif'.*'shift'"):
        CSGO_PLAYER.make_action(keys="shif")


@EACH_ROBOT
def test_the_bounds_themselves_are_allowed_and_nothing_beyond(robot: RobotSpec) -> None:
    assert robot.check_actions(np.stack([robot.low, robot.high])).dtype == np.float32
    for column, name in enumerate(robot.value_names):
        beyond = robot.high.copy()
        beyond[column] += 0.01
        with pytest.raises(ValueError, match=rf"expected {re.escape(name)} in .* in row 1"):
            robot.check_actions(np.stack([robot.low, beyond]))


@EACH_ROBOT
def test_a_robot_can_be_a_key(robot: RobotSpec) -> None:
    assert {robot: 1}[robot] == 1


def test_a_rounding_error_beyond_a_bound_is_forgiven_and_removed() -> None:
    robot = STANDIN_SAWYER
    for beyond in (robot.high + 9e-7, robot.low - 9e-7):
        checked = robot.check_actions(beyond.astype(np.float32)[None])[0]
        assert (checked <= robot.high).all() and (checked >= robot.low).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_are_refused(value: float) -> None:
    action = GOOGLE_ROBOT.make_action(world_vector=value)
    for use in (GOOGLE_ROBOT.check_actions, GOOGLE_ROBOT.clip_actions):
        with pytest.raises(ValueError, match=r"expected a finite world_vector\[0\] .* in row 0"):
            use(action[None])


@pytest.mark.parametrize("shape", [(13,), (1, 12), (1, 1, 13)])
def test_a_wrong_shape_says_expected_and_found(shape: tuple[int, ...]) -> None:
    for use in (GOOGLE_ROBOT.check_actions, GOOGLE_ROBOT.clip_actions):
        with pytest.raises(ValueError, match=r"expected actions of shape \(B, 13\)"):
            use(np.zeros(shape, np.float32))


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(KeyError, match="found action field 'wheel'"):
        GOOGLE_ROBOT.make_action(wheel=1.0)


def test_too_few_values_say_expected_and_found() -> None:
    with pytest.raises(ValueError, match=r"expected 3 values of world_vector, found \(2,\)"):
        GOOGLE_ROBOT.make_action(world_vector=(0.1, 0.2))
