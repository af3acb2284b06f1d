"""What a robot's action means."""

import numpy as np
import pytest

from configs.robots import GOOGLE_ROBOT, ROBOTS, STANDIN_SAWYER, TERMINATE, RobotSpec

EACH_ROBOT = pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)


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


@EACH_ROBOT
def test_an_action_that_names_nothing_does_nothing_and_continues(robot: RobotSpec) -> None:
    action = robot.make_action()
    assert action[robot.slices["terminate_episode"]].tolist() == [0, 1, 0]
    assert np.abs(action).sum() == 1
    assert not robot.terminates(robot.check_actions(action[None])).any()


@EACH_ROBOT
def test_only_the_first_value_of_the_terminate_field_ends_an_episode(robot: RobotSpec) -> None:
    ends = robot.make_action(terminate_episode=TERMINATE)
    assert robot.terminates(np.stack([ends, robot.make_action()])).tolist() == [True, False]


@EACH_ROBOT
def test_the_bounds_themselves_are_allowed_and_nothing_beyond(robot: RobotSpec) -> None:
    assert robot.check_actions(np.stack([robot.low, robot.high])).dtype == np.float32
    for column, name in enumerate(robot.value_names):
        beyond = robot.high.copy()
        beyond[column] += 0.01
        with pytest.raises(ValueError, match=rf"expected {name[:-3]}\[\d\] in .* in row 1"):
            robot.check_actions(np.stack([robot.low, beyond]))


def test_a_rounding_error_beyond_a_bound_is_forgiven_and_removed() -> None:
    robot = STANDIN_SAWYER
    for beyond in (robot.high + 9e-7, robot.low - 9e-7):
        checked = robot.check_actions(beyond.astype(np.float32)[None])[0]
        assert (checked <= robot.high).all() and (checked >= robot.low).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite_are_refused(value: float) -> None:
    action = GOOGLE_ROBOT.make_action(world_vector=value)
    with pytest.raises(ValueError, match=r"expected world_vector\[0\] in \[-1, 1\]"):
        GOOGLE_ROBOT.check_actions(action[None])


@pytest.mark.parametrize("shape", [(13,), (1, 12), (1, 1, 13)])
def test_a_wrong_shape_says_expected_and_found(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected actions of shape \(B, 13\)"):
        GOOGLE_ROBOT.check_actions(np.zeros(shape, np.float32))


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(KeyError, match="found action field 'wheel'"):
        GOOGLE_ROBOT.make_action(wheel=1.0)
