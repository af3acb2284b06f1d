"""Actions of other layouts become the robot's own."""

from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.configs.robots import (
    ACTION_LAYOUTS,
    CSGO_PLAYER,
    FRACTAL13,
    GOOGLE_ROBOT,
    OXE7,
    RECON_JACKAL,
    ROBOTS,
    STANDIN_SAWYER,
    WME10,
)
from v2w_gym.policies.processing.actions import (
    CLIPPED,
    NOT_ONE_HOT,
    Gripper,
    check_layout,
    clip_to_bounds,
    ends_episode,
    is_impossible,
    to_opening,
    to_relative,
    to_robot,
    to_robot_layout,
)

PLAIN = ProcessingConfig()


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_wme10_by_hand() -> None:
    action = float32(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    wanted = float32(0.8, 0.9, 1.0, 0.7, 0.4, 0.5, 0.6, 0, 1, 0, 0.1, 0.2, 0.3)
    assert (to_robot_layout(action, WME10, GOOGLE_ROBOT) == wanted).all()


def test_oxe7_by_hand() -> None:
    action = float32(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    wanted = float32(0, 0, 0, 0.7, 0.4, 0.5, 0.6, 0, 1, 0, 0.1, 0.2, 0.3)
    assert (to_robot_layout(action, OXE7, GOOGLE_ROBOT) == wanted).all()


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=lambda robot: robot.name)
def test_the_robots_own_layout_is_left_alone(robot) -> None:
    """A policy in the robot's own layout gives the robot's own actions."""
    chunks = np.random.default_rng(0).normal(size=(2, 4, robot.action_size)).astype(np.float32)
    assert (to_robot_layout(chunks, robot.action_layout, robot) == chunks).all()


def turn(axis: int, angle: float) -> np.ndarray:
    """The matrix of a turn about x, y or z."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def rodrigues(vector: np.ndarray) -> np.ndarray:
    """The matrix of a turn by |vector| about it."""
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def test_an_axis_and_angle_become_roll_pitch_yaw() -> None:
    """Turns about fixed axes x, then y, then z make the same rotation."""
    layout = replace(OXE7, rotation="axis_angle")
    rng = np.random.default_rng(0)
    for vector in rng.uniform(-0.8, 0.8, (20, 3)):
        action = float32(0, 0, 0, *vector, 0)
        roll, pitch, yaw = to_robot_layout(action, layout, GOOGLE_ROBOT)[4:7]
        rebuilt = turn(2, yaw) @ turn(1, pitch) @ turn(0, roll)
        np.testing.assert_allclose(rebuilt, rodrigues(vector), atol=1e-6)


def test_a_turn_about_one_axis_stays_as_it_is() -> None:
    layout = replace(OXE7, rotation="axis_angle")
    chunk = np.zeros((2, 3, 7), np.float32)
    chunk[1, :, 3:6] = np.eye(3) * 0.25
    moved = to_robot_layout(chunk, layout, GOOGLE_ROBOT)[..., 4:7]
    np.testing.assert_allclose(moved, chunk[..., 3:6], atol=1e-7)


def test_a_layout_without_counterpart_is_refused() -> None:
    for layout in (FRACTAL13, WME10, OXE7):
        check_layout(layout, STANDIN_SAWYER)
    check_layout(CSGO_PLAYER.action_layout, CSGO_PLAYER)
    message = r"one of \['fractal13', 'wme10', 'oxe7'\] for robot 'google_robot', found 'recon3'"
    with pytest.raises(ValueError, match=message):
        check_layout(RECON_JACKAL.action_layout, GOOGLE_ROBOT)
    with pytest.raises(ValueError, match=r"one of \['csgo51'\]"):
        check_layout(OXE7, CSGO_PLAYER)
    with pytest.raises(ValueError, match="expected a gripper .* found 'binary'"):
        check_layout(replace(OXE7, gripper="binary"), GOOGLE_ROBOT)
    with pytest.raises(ValueError, match="expected no gripper for layout 'recon3', .*leave it out"):
        check_layout(replace(ACTION_LAYOUTS["recon3"], gripper="absolute"), RECON_JACKAL)
    with pytest.raises(ValueError, match="expected a rotation .* found 'quaternion'"):
        check_layout(replace(OXE7, rotation="quaternion"), GOOGLE_ROBOT)


def sent(positions: list[float], sticky: int) -> list[float]:
    gripper, changes = Gripper(), []
    for position in positions:
        gripper, change = to_relative(gripper, position, sticky)
        changes.append(change)
    return changes


def test_an_absolute_gripper_sends_its_changes() -> None:
    """It closes from open (1) to closed (0): +1. The first step changes nothing."""
    assert sent([1, 1, 0, 0, 1, 0.75], sticky=1) == [0, 0, 1, 0, -1, 0.25]


@pytest.mark.parametrize(
    ("kind", "opened", "closed"),
    [("absolute", 1, 0), ("closedness", 0, 1), ("signed", 1, -1), ("signed_closedness", -1, 1)],
)
def test_every_convention_of_a_position_closes_and_opens(
    kind: str, opened: float, closed: float
) -> None:
    """Open twice, closed twice, half open: +1 closes, whatever the convention's numbers are."""
    gripper, changes = Gripper(), []
    for value in (opened, opened, closed, closed, (opened + closed) / 2):
        action = GOOGLE_ROBOT.make_action(gripper_closedness_action=value)
        assert not is_impossible(action, kind, GOOGLE_ROBOT)
        gripper, moved = to_robot(gripper, action, kind, GOOGLE_ROBOT, PLAIN)
        changes.append(float(moved[3]))
    assert changes == [0, 0, 1, 0, -0.5]


@pytest.mark.parametrize(
    ("kind", "near", "wrong"),
    [
        ("absolute", (-0.2, 1.2), (-0.3, -1, 1.3, 2)),
        ("closedness", (-0.2, 1.2), (-0.3, -1, 1.3, 255)),
        ("signed_closedness", (-1.4, 1.4), (-1.6, 1.6)),
    ],
)
def test_a_position_beyond_its_range_is_clipped_and_far_beyond_it_is_impossible(
    kind: str, near: tuple[float, ...], wrong: tuple[float, ...]
) -> None:
    for value in near + wrong:
        action = GOOGLE_ROBOT.make_action(gripper_closedness_action=value)
        assert is_impossible(action, kind, GOOGLE_ROBOT) == (value in wrong)
        assert to_opening(value, kind) in (0, 1)
    for kind in ("relative", "none"):
        assert not is_impossible(action, kind, GOOGLE_ROBOT)


def test_an_impossible_position_changes_no_more_than_all_the_way() -> None:
    """-1 to 1 in a convention of 0 to 1 would be twice what the gripper can do."""
    gripper, changes = Gripper(), []
    for value in (1, -1, 1):
        action = GOOGLE_ROBOT.make_action(gripper_closedness_action=value)
        gripper, moved = to_robot(gripper, action, "absolute", GOOGLE_ROBOT, PLAIN)
        changes.append(float(moved[3]))
    assert changes == [0, 1, -1]


def test_a_large_change_is_sent_on() -> None:
    """Three times, although the policy opens again meanwhile; the step after compares anew."""
    positions = [1, 0.25, 0.25, 1, 1, 0, 0, 0, 0]
    assert sent(positions, sticky=3) == [0, 0.75, 0.75, 0.75, 0, 1, 1, 1, 0]


def test_a_change_can_follow_another_at_once() -> None:
    assert sent([1, 0, 0, 1, 1, 1], sticky=2) == [0, 1, 1, -1, -1, 0]


def test_half_a_change_is_not_sent_on() -> None:
    assert sent([1, 0.5, 0.5, 0.5], sticky=15) == [0, 0.5, 0, 0]


def test_fifteen_steps_as_in_simpler_env() -> None:
    assert sent([1, 0] + [0] * 20, sticky=15) == [0] + [1] * 15 + [0] * 6


@pytest.mark.parametrize(
    ("value", "wanted"), [(-0.0039, 0), (0.0099, 0), (0.02, 0.02), (-0.5, -0.5)]
)
def test_a_small_relative_gripper_holds(value: float, wanted: float) -> None:
    action = GOOGLE_ROBOT.make_action(gripper_closedness_action=value)
    cfg = ProcessingConfig(gripper_deadband=0.01)
    gripper, moved = to_robot(Gripper(), action, "relative", GOOGLE_ROBOT, cfg)
    assert moved[3] == np.float32(wanted)
    assert gripper == Gripper()
    assert to_robot(Gripper(), action, "relative", GOOGLE_ROBOT, PLAIN)[1][3] == np.float32(value)


def test_a_policy_without_gripper_holds() -> None:
    action = GOOGLE_ROBOT.make_action(gripper_closedness_action=0.7)
    assert to_robot(Gripper(), action, "none", GOOGLE_ROBOT, PLAIN)[1][3] == 0


def test_the_scale_is_that_of_the_hand_alone() -> None:
    action = np.full(13, 0.25, np.float32)
    cfg = ProcessingConfig(scale=2)
    _, moved = to_robot(Gripper(), action, "relative", GOOGLE_ROBOT, cfg)
    assert (moved == float32(*[0.25] * 10, 0.5, 0.5, 0.5)).all()
    assert (action == 0.25).all()


def test_values_within_the_bounds_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        anywhere = rng.uniform(GOOGLE_ROBOT.low, GOOGLE_ROBOT.high).astype(np.float32)
        anywhere[7:10] = np.eye(3)[rng.integers(3)]
        fitted, changed = clip_to_bounds(anywhere, GOOGLE_ROBOT)
        assert (fitted == anywhere).all()
        assert not changed


def test_values_beyond_the_bounds_are_clipped() -> None:
    action = GOOGLE_ROBOT.make_action(world_vector=(0.5, -3, 1.5), rotation_delta=(0, 2, 0))
    wanted = GOOGLE_ROBOT.make_action(world_vector=(0.5, -1, 1), rotation_delta=(0, np.pi / 2, 0))
    fitted, changed = clip_to_bounds(action, GOOGLE_ROBOT)
    assert (fitted == wanted).all()
    assert changed == (CLIPPED,)
    assert not clip_to_bounds(float32(*[0] * 8, 1, *[0] * 3, 1 + 1e-7), GOOGLE_ROBOT)[1]


def test_what_the_robot_cannot_move_is_dropped() -> None:
    moves = {"rotation_delta": 0.3, "base_displacement_vector": 0.2, "world_vector": 0.01}
    fitted, changed = clip_to_bounds(GOOGLE_ROBOT.make_action(**moves), STANDIN_SAWYER)
    assert (fitted == STANDIN_SAWYER.make_action(world_vector=0.01)).all()
    assert not changed
    assert clip_to_bounds(GOOGLE_ROBOT.make_action(world_vector=0.06), STANDIN_SAWYER)[1]


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        ((1, 0, 0), (1, 0, 0)),
        ((0, 0, 1), (0, 0, 1)),
        ((0, 0, 0), None),  # not one-hot: the episode goes on
        ((0.6, 0.3, 0.1), None),
        ((-4, 2, 1), None),
        ((1, 8, 0), None),
    ],
)
def test_only_a_one_hot_counts(mode: tuple[float, ...], wanted: tuple[float, ...] | None) -> None:
    action = GOOGLE_ROBOT.make_action(terminate_episode=mode)
    fitted, changed = clip_to_bounds(action, GOOGLE_ROBOT)
    assert tuple(fitted[7:10]) == (wanted or (0, 1, 0))
    assert changed == (() if wanted else (NOT_ONE_HOT,))
    assert ends_episode(fitted, GOOGLE_ROBOT) == (wanted == (1, 0, 0))


def test_other_robots_have_no_ending() -> None:
    action, changed = clip_to_bounds(CSGO_PLAYER.make_action(keys=0.4), CSGO_PLAYER)
    assert (action[:11] == np.float32(0.4)).all()
    assert not changed
    assert not ends_episode(action, CSGO_PLAYER)
