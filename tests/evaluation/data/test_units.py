"""Wrong units and conventions leave signs; right ones do not."""

from collections.abc import Callable

import numpy as np
import pytest

from tests.evaluation.data.drawn import GRIPPER, HAND, draw_episodes, with_actions
from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER, WIDOWX, RobotSpec
from v2w_gym.evaluation.data.units import Finding, check_fields
from v2w_gym.evaluation.data.values import group_fields

SWITCHED = np.r_[np.zeros(6), np.ones(9), np.zeros(9)][:, None]
"""A gripper's position that changes twice."""


def check(
    place: slice,
    change: Callable[[np.ndarray], np.ndarray],
    robot: RobotSpec = STANDIN_SAWYER,
    rate: float = 3,
) -> list[Finding]:
    episodes = [with_actions(each, place, change) for each in draw_episodes(8)]
    return check_fields(group_fields([each.actions for each in episodes], None, robot), rate)


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, [str(each) for each in findings]
    return findings[0]


def arm(*, hand: float, rotation: float, drift: float = 0, offset: float = 0) -> list[np.ndarray]:
    """Return actions (T - 1, 7) of eight episodes of a WidowX with fields of a size."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(8):
        values = rng.normal(0, 1, (24, 6)) * np.repeat([hand, rotation], 3)
        values[:, :3] = values[:, :3] * (1 - drift) + drift * values[:, :3].cumsum(axis=0) + offset
        found.append(np.c_[values, 1 - SWITCHED].astype(np.float32))
    return found


def test_right_actions_leave_no_sign() -> None:
    assert check(HAND, lambda values: values) == []
    assert check_fields(group_fields(arm(hand=0.01, rotation=0.05), None, WIDOWX), 5) == []


@pytest.mark.parametrize(
    ("times", "factor", "unit"),
    [
        (1000, 1e-3, "millimetres"),
        (100, 1e-2, "centimetres"),
        (20, 0.05, "normalised to [-1, 1], with the bound for 1"),
        (3, 1 / 3, "per second, not per step"),
        (1e-3, 1e3, "a thousandth"),
    ],
)
def test_lengths_in_other_units(times: float, factor: float, unit: str) -> None:
    found = only(check(HAND, lambda values: values * times))
    assert found.factor == pytest.approx(factor)
    assert unit in found.text
    assert str(found).endswith(f"scale={{world_vector: {factor:.6g}}}")


def test_values_of_about_one_have_no_certain_factor() -> None:
    found = only(check(HAND, lambda values: values * 15.7))
    assert found.factor is None
    assert "may be one of: normalised, centimetres" in found.text


def test_degrees() -> None:
    degrees = arm(hand=0.01, rotation=0.05 * 180 / np.pi)
    found = only(check_fields(group_fields(degrees, None, WIDOWX), 5))
    assert (found.field, found.factor) == ("rotation_delta", pytest.approx(np.pi / 180))


def test_normalised_values_of_a_robot_with_wide_bounds() -> None:
    rng = np.random.default_rng(0)
    actions = [np.tile(GOOGLE_ROBOT.make_action(), (24, 1)) for _ in range(6)]
    for each in actions:
        each[:, GOOGLE_ROBOT.slices["world_vector"]] = rng.uniform(-1, 1, (24, 3))
    found = only(check_fields(group_fields(actions, None, GOOGLE_ROBOT), 3))
    assert "fill [-1, 1]" in found.text
    assert found.factor is None


def test_positions_instead_of_displacements() -> None:
    positions = arm(hand=0.01, rotation=0.05, drift=1, offset=0.3)
    found = only(check_fields(group_fields(positions, None, WIDOWX), 5))
    assert found.field == "world_vector"
    assert "look like positions" in found.text


def test_a_gripper_position_where_a_change_is_expected() -> None:
    found = only(check(GRIPPER, lambda values: SWITCHED))
    assert "are a position (0 or 1" in found.text
    assert "begin at 0" in found.text
    signed = only(check(GRIPPER, lambda values: 2 * SWITCHED - 1))
    assert "are a position (-1 or 1" in signed.text


def test_a_gripper_of_the_other_sign() -> None:
    found = only(check(GRIPPER, lambda values: -values))
    assert "scale={gripper_closedness_action: -1} corrects it" in found.text
    assert found.factor is None  # an episode may begin with a closed gripper


def test_positions_of_a_gripper() -> None:
    for values, text in ((SWITCHED, "begin closed (0)"), (1 - 2 * SWITCHED, "are -1 or 1")):
        actions = arm(hand=0.01, rotation=0.05)
        changed = [np.c_[each[:, :6], values].astype(np.float32) for each in actions]
        found = check_fields(group_fields(changed, None, WIDOWX), 5)
        assert any(each.field == "open_gripper" and text in each.text for each in found)


def test_fields_that_never_change_and_values_that_are_missing() -> None:
    assert "never change from 0.01" in only(check(HAND, lambda values: values * 0 + 0.01)).text
    assert check(HAND, lambda values: values * 0) == []
    gap = np.where(np.arange(24)[:, None] == 5, np.nan, 0.01 * np.arange(24)[:, None] % 0.03)
    found = check(HAND, lambda values: values * 0 + gap)
    assert any("8 actions are not finite, the first at step 5" in each.text for each in found)


def test_a_choice_that_is_none_suggests_another_order() -> None:
    found = check(STANDIN_SAWYER.slices["terminate_episode"], lambda values: values * 0 + 0.3)
    assert any("100% of the actions are not one-hot" in each.text for each in found)


def test_a_field_that_the_robot_cannot_move() -> None:
    found = only(check(STANDIN_SAWYER.slices["rotation_delta"], lambda v: v + SWITCHED * 0.1))
    assert "cannot move it" in found.text


def test_without_a_robot_nothing_is_compared() -> None:
    assert check_fields(group_fields([np.ones((9, 4), np.float32) * 1e6], None, None), 3) == []
