import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER, RobotSpec
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer

PI = np.pi
TOKENS = {
    "world_vector": 1,
    "rotation_delta": 4,
    "gripper_closedness_action": 7,
    "base_displacement_vertical_rotation": 8,
    "base_displacement_vector": 9,
}
"""Where each field's first token lies."""


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


def every_token(bins: int = 256) -> np.ndarray:
    """(bins, 11): each token in every place, terminate tokens within the three modes."""
    tokens = np.repeat(np.arange(bins)[:, None], 11, axis=1)
    tokens[:, 0] %= 3
    return tokens


@pytest.mark.parametrize("bins", [8, 256, 512])
@pytest.mark.parametrize("robot", [GOOGLE_ROBOT, STANDIN_SAWYER], ids=lambda robot: robot.name)
def test_every_token_survives_decoding_and_encoding(robot: RobotSpec, bins: int):
    tokenizer, tokens = ActionTokenizer(robot, bins), every_token(bins)
    wanted = np.where(tokenizer.free, tokens, 0)  # what cannot move has one value
    assert (tokenizer.encode(tokenizer.decode(tokens)) == wanted).all()


@pytest.mark.parametrize("robot", [GOOGLE_ROBOT, STANDIN_SAWYER], ids=lambda robot: robot.name)
def test_tokens_of_rt1s_own_single_precision_decoding_are_recognised(robot: RobotSpec):
    """RT-1 decodes in float32 throughout: k / 255 * (high - low) + low."""
    tokenizer, tokens = ActionTokenizer(robot), every_token()
    actions = tokenizer.decode(tokens)
    for name, columns in robot.slices.items():
        if name != "terminate_episode":
            low, high = robot.low[columns], robot.high[columns]
            place = [TOKENS[name]] * (columns.stop - columns.start)
            share = tokens[:, place].astype(np.float32) / np.float32(255)
            actions[:, columns] = share * (high - low) + low
    assert (tokenizer.encode(actions) == np.where(tokenizer.free, tokens, 0)).all()


@pytest.mark.parametrize("mode", [(1, 8, 0), (0, 0, 0), (1, 1, 0), (0.5, 0.5, 0), (2, -1, 0)])
def test_an_action_that_is_not_one_hot_is_refused(mode: tuple[float, ...]):
    actions = np.stack([GOOGLE_ROBOT.make_action()] * 3)
    actions[1, GOOGLE_ROBOT.slices["terminate_episode"]] = mode
    with pytest.raises(ValueError, match=r"expected a one-hot terminate_episode .* in row 1"):
        ActionTokenizer(GOOGLE_ROBOT).encode(actions)
    fitted = GOOGLE_ROBOT.clip_actions(actions)
    assert ActionTokenizer(GOOGLE_ROBOT).encode(fitted.actions)[:, 0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("wrong", [-1, 256])
def test_what_is_no_token_is_refused(wrong: int):
    tokens = np.zeros(11, np.int64)
    tokens[4] = wrong
    with pytest.raises(ValueError, match="expected tokens from 0 to 255, found"):
        ActionTokenizer(GOOGLE_ROBOT).decode(tokens)


def test_any_number_of_leading_axes_is_kept():
    tokenizer, action = ActionTokenizer(STANDIN_SAWYER), STANDIN_SAWYER.make_action()
    single = tokenizer.encode(action)
    assert single.shape == (11,)
    assert (tokenizer.encode(np.tile(action, (2, 3, 1))) == single).all()
    assert tokenizer.encode(np.zeros((0, 13), np.float32)).shape == (0, 11)


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
    robot = RobotSpec("cart", "CART", "cart2", GOOGLE_ROBOT.fields[:2], 3, (64, 64))
    with pytest.raises(ValueError, match="expected a robot with the RT-1 fields"):
        ActionTokenizer(robot)
