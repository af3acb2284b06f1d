"""One recorded episode as a robot's: order, units, rate, frame size, shift."""

from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.configs.data import FitSettings
from v2w_gym.configs.robots import STANDIN_SAWYER, RobotSpec
from v2w_gym.world_models.data.episode import EncodedFrames, Episode
from v2w_gym.world_models.data.fit import (
    Beyond,
    UnfitEpisodeError,
    fit_episode,
    in_robots_order,
)
from v2w_gym.world_models.frames import fit

ROBOT = STANDIN_SAWYER
HAND = ROBOT.slices["world_vector"]


class Pictures:
    """Frames that also exist as files."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, steps: object) -> np.ndarray:
        return self.frames[steps]

    def encoded(self, step: int) -> bytes:
        return bytes([step])


def episode(length: int = 6, robot: RobotSpec = ROBOT) -> Episode:
    """Return an episode whose frame t is t throughout, and whose action t is 0.001 t."""
    actions = np.tile(robot.make_action(), (length - 1, 1))
    actions[:, HAND] = np.arange(length - 1)[:, None] / 1000
    frames = np.zeros((length, *robot.frame_size, 3), np.uint8)
    frames += np.arange(length, dtype=np.uint8)[:, None, None, None]
    return Episode("lift", frames, actions, success=np.arange(length) > 2)


def refusal(found: Episode, settings: FitSettings | None = None) -> tuple[str, str]:
    """Return kind and message of a refused episode."""
    with pytest.raises(UnfitEpisodeError) as refused:
        fit_episode(found, ROBOT, settings)
    return refused.value.kind, str(refused.value)


def test_an_episode_in_the_robots_order_stays_as_it_is() -> None:
    found = fit_episode(episode(), ROBOT)
    np.testing.assert_array_equal(found.episode.frames[:], episode().frames)
    np.testing.assert_array_equal(found.actions, episode().actions)
    assert found.episode.robot == ROBOT.name
    assert found.episode.rate == ROBOT.control_hz
    assert (found.beyond, found.at_rest) == ({}, ())


def test_named_fields_take_the_robots_order_and_the_others_rest() -> None:
    values = np.full((5, 4), 0.5, np.float32)
    values[:, 1:] = 0.01
    named = (("gripper_closedness_action", 1), ("world_vector", 3))
    found = fit_episode(replace(episode(), actions=values, action_fields=named), ROBOT)
    expected = ROBOT.make_action(gripper_closedness_action=0.5, world_vector=0.01)
    np.testing.assert_array_equal(found.actions, np.tile(expected, (5, 1)))
    assert found.at_rest == (
        *("base_displacement_vector", "base_displacement_vertical_rotation"),
        *("rotation_delta", "terminate_episode"),
    )


def test_an_episode_comes_into_the_robots_order_with_its_values_as_recorded() -> None:
    values = np.full((5, 3), 7, np.float32)
    other = replace(episode(), actions=values, action_fields=(("world_vector", 3),))
    expected = ROBOT.make_action(world_vector=7.0)
    np.testing.assert_array_equal(in_robots_order(other, ROBOT).actions, np.tile(expected, (5, 1)))
    assert in_robots_order(episode(), ROBOT).action_fields is None
    with pytest.raises(UnfitEpisodeError, match="found 'wings'"):
        in_robots_order(replace(other, action_fields=(("wings", 3),)), ROBOT)


def test_a_refusal_names_the_origin_if_it_is_given() -> None:
    with pytest.raises(UnfitEpisodeError, match="'standin_sawyer' in a.npz, found this: expected"):
        fit_episode(replace(episode(), actions=None), ROBOT, origin="a.npz")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ((("world_vektor", 3),), "did you mean 'world_vector'"),
        ((("world_vector", 2),), "expected 3 values of world_vector"),
        ((("world_vector", 3), ("world_vector", 3)), "each action field once"),
    ],
)
def test_fields_that_the_robot_lacks_are_refused(
    named: tuple[tuple[str, int], ...], message: str
) -> None:
    values = np.zeros((5, sum(size for _, size in named)), np.float32)
    kind, reason = refusal(replace(episode(), actions=values, action_fields=named))
    assert kind == "actions"
    assert message in reason


def test_another_width_is_refused() -> None:
    kind, reason = refusal(replace(episode(), actions=np.zeros((5, 7), np.float32)))
    assert kind == "actions"
    assert "(5, 13)" in reason
    assert "(5, 7)" in reason


def test_nan_and_other_units_are_refused_and_a_scale_brings_them_back() -> None:
    broken = episode().actions.copy()
    broken[3, 12] = np.nan
    assert "finite world_vector[2]" in refusal(replace(episode(), actions=broken))[1]
    long = episode(40)
    metres = long.actions.copy()
    long.actions[:, HAND] *= 1000
    kind, reason = refusal(long)
    assert kind == "actions"
    assert "units" in reason
    found = fit_episode(long, ROBOT, FitSettings(scale={"world_vector": 0.001}))
    np.testing.assert_allclose(found.actions, metres, atol=1e-6)
    with pytest.raises(ValueError, match="did you mean 'world_vector'"):
        fit_episode(long, ROBOT, FitSettings(scale={"world_vecto": 0.001}))


def test_values_beyond_the_bounds_are_clipped_and_counted_by_field() -> None:
    actions = episode().actions.copy()
    actions[1, HAND] = (0.06, -0.07, 0.05)
    found = fit_episode(replace(episode(), actions=actions), ROBOT)
    np.testing.assert_allclose(found.actions[1, HAND], (0.05, -0.05, 0.05))
    assert found.misfits.clipped == 2
    assert found.beyond == {"world_vector": Beyond(2, pytest.approx(-0.07), pytest.approx(0.02))}


def test_other_robots_rates_and_sizes_are_refused_with_a_way_on() -> None:
    assert refusal(replace(episode(), robot="google_robot"))[0] == "robot"
    kind, reason = refusal(replace(episode(), rate=30))
    assert kind == "rate"
    assert "rate=3" in reason
    assert fit_episode(replace(episode(), rate=30), ROBOT, FitSettings(rate=3))
    assert fit_episode(replace(episode(), rate=2.97), ROBOT)
    assert refusal(episode(), FitSettings(rate=5))[0] == "rate"
    large = replace(episode(), frames=np.zeros((6, 128, 160, 3), np.uint8))
    kind, reason = refusal(large)
    assert kind == "frame size"
    assert "fit=true" in reason
    resized = fit_episode(large, ROBOT, FitSettings(fit=True)).episode.frames
    assert resized[:].shape == (6, 64, 64, 3)
    assert resized[3:3].shape == (0, 64, 64, 3)


def test_frames_are_resized_few_at_a_time_and_alike() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 128, 150, 3), np.uint8)
    found = fit_episode(replace(episode(20), frames=frames), ROBOT, FitSettings(fit=True))
    np.testing.assert_array_equal(found.episode.frames[:], fit(frames, (64, 64)))


def test_an_episode_without_actions_or_of_one_frame_is_refused() -> None:
    assert "fields=FILE.yaml" in refusal(replace(episode(), actions=None))[1]
    assert refusal(episode(1))[0] == "too short"


@pytest.mark.parametrize("shift", [2, -2])
def test_a_shift_gives_frame_t_the_action_that_is_stored_at_t_plus_shift(shift: int) -> None:
    found = fit_episode(episode(), ROBOT, FitSettings(action_shift=shift)).episode
    frames = found.frames[:][:, 0, 0, 0].astype(int)
    assert len(found) == 4
    np.testing.assert_allclose(found.actions[:, HAND][:, 0] * 1000, frames[:-1] + shift)
    np.testing.assert_array_equal(found.success, frames > 2)
    assert refusal(episode(), FitSettings(action_shift=5))[0] == "too short"


def test_pictures_stay_files_only_where_they_have_the_robots_size() -> None:
    stored = replace(episode(), frames=Pictures(episode().frames))
    shifted = fit_episode(stored, ROBOT, FitSettings(action_shift=-2)).episode.frames
    assert isinstance(shifted, EncodedFrames)
    assert shifted.encoded(1) == bytes([3])
    large = replace(episode(), frames=Pictures(np.zeros((6, 128, 128, 3), np.uint8)))
    resized = fit_episode(large, ROBOT, FitSettings(fit=True)).episode.frames
    assert not isinstance(resized, EncodedFrames)


def test_a_later_frame_is_chosen_by_index_and_checked_when_it_is_read() -> None:
    frames = fit_episode(episode(), ROBOT, FitSettings(action_shift=-1)).episode.frames
    np.testing.assert_array_equal(frames[np.array([3, 0])][:, 0, 0, 0], [4, 1])
    assert frames[2:2].shape[0] == 0
