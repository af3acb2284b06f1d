"""The order of actions: every robot's own follows from its fields, others are views of them."""

import pytest

from v2w_gym.configs.robots import ACTION_LAYOUTS, FRACTAL13, OXE7, ROBOTS, WME10, RobotSpec

HAND_ROTATION_GRIPPER = ("world_vector", "rotation_delta", "gripper_closedness_action")


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_a_robots_layout_is_its_fields_and_the_same_for_all_of_a_data_format(
    robot: RobotSpec,
) -> None:
    layout = ACTION_LAYOUTS[robot.data_format]
    assert layout == robot.action_layout
    assert layout.fields == tuple((field.name, field.size) for field in robot.fields)
    assert layout.size == robot.action_size == len(robot.low)


def test_the_orders_of_other_data_formats() -> None:
    assert OXE7.fields == tuple(zip(HAND_ROTATION_GRIPPER, (3, 3, 1), strict=True))
    assert (OXE7.gripper, OXE7.rotation) == ("absolute", "rpy")
    assert [name for name, _ in WME10.fields] == [
        *HAND_ROTATION_GRIPPER,
        "base_displacement_vector",
        "base_displacement_vertical_rotation",
    ]
    assert (WME10.size, WME10.gripper, WME10.slices["world_vector"]) == (
        10,
        "relative",
        slice(0, 3),
    )


def test_a_field_that_is_not_picked_has_no_convention() -> None:
    picked = FRACTAL13.pick("hand", "world_vector", gripper="absolute")
    assert (picked.gripper, picked.rotation) == ("none", "none")
