import numpy as np
import pytest

from configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER, RobotSpec
from policies.rt1.tokenizer import ActionTokenizer

PI = np.pi


def test_tokens_worked_by_hand():
    action = GOOGLE_ROBOT.make_action(
        world_vector=np.array([-1, 0, 1]),  # floor(0), floor(127.5), floor(255)
        rotation_delta=np.array([0, PI / 4, -PI]),  # 127, floor(191.25), clipped to 0
        gripper_closedness_action=0.5,  # floor(0.75 * 255 = 191.25)
        base_displacement_vertical_rotation=-PI / 2,  # floor(0.25 * 255 = 63.75)
        base_displacement_vector=np.array([0.999, 2.0]),  # floor(254.87), clipped to 255
    )
    expected = [1, 0, 127, 255, 127, 191, 0, 191, 63, 254, 255]
    assert ActionTokenizer(GOOGLE_ROBOT).encode(action).tolist() == expected


def test_decoding_worked_by_hand():
    tokens = np.array([2, 0, 127, 255, 0, 255, 51, 127, 255, 0, 51])
    action = ActionTokenizer(GOOGLE_ROBOT).decode(tokens)
    fields = {name: action[where].tolist() for name, where in GOOGLE_ROBOT.slices.items()}
    assert fields["terminate_episode"] == [0, 0, 1]
    assert fields["world_vector"] == pytest.approx([-1, -1 / 255, 1])
    assert fields["rotation_delta"] == pytest.approx([-PI / 2, PI / 2, -PI / 2 + PI / 5])
    assert fields["gripper_closedness_action"] == pytest.approx([-1 / 255])
    assert fields["base_displacement_vertical_rotation"] == pytest.approx([PI])
    assert fields["base_displacement_vector"] == pytest.approx([-1, -0.6])


@pytest.mark.parametrize("robot", [GOOGLE_ROBOT, STANDIN_SAWYER])
def test_round_trip_loses_less_than_a_bin_and_stays_within_bounds(robot: RobotSpec):
    rng = np.random.default_rng(0)
    actions = rng.uniform(robot.low, robot.high, (1000, robot.action_size)).astype(np.float32)
    actions[:, robot.slices["terminate_episode"]] = np.eye(3)[rng.integers(0, 3, 1000)]
    tokenizer = ActionTokenizer(robot)
    decoded = tokenizer.decode(tokenizer.encode(actions))
    robot.check_actions(decoded)
    error = actions - decoded
    one_bin = (robot.high - robot.low) / 255
    assert (error >= -1e-6).all()
    assert (error <= one_bin + 1e-6).all()


def test_every_token_decodes_within_bounds_and_locked_fields_to_their_only_value():
    tokenizer = ActionTokenizer(STANDIN_SAWYER)
    actions = tokenizer.decode(np.repeat(np.arange(256)[:, None], 11, axis=1))
    STANDIN_SAWYER.check_actions(actions)
    for name in ("rotation_delta", "base_displacement_vector"):
        assert (actions[:, STANDIN_SAWYER.slices[name]] == 0).all()
    assert tokenizer.free.tolist() == [True] * 4 + [False] * 3 + [True] + [False] * 3


def test_a_terminate_token_out_of_range_terminates():
    tokens = np.zeros((4, 11), np.int64)
    tokens[:, 0] = [0, 1, 3, 255]
    actions = ActionTokenizer(STANDIN_SAWYER).decode(tokens)
    assert STANDIN_SAWYER.terminates(actions).tolist() == [True, False, True, True]


def test_bins_must_hold_the_terminate_token():
    with pytest.raises(ValueError, match="expected at least 3 bins, found 2"):
        ActionTokenizer(STANDIN_SAWYER, bins=2)


def test_a_robot_without_the_rt1_fields_is_refused():
    robot = RobotSpec("cart", "cart2", GOOGLE_ROBOT.fields[:2], 3, (64, 64))
    with pytest.raises(ValueError, match="expected a robot with the RT-1 fields"):
        ActionTokenizer(robot)
