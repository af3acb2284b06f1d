"""Starts cut out of episodes: frames, the actions between them, and what does not fit."""

from dataclasses import replace

import numpy as np
import pytest

from tests.world_models.data.recorded import make_episode
from v2w_gym.configs.data import FitSettings
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.world_models.data.starts.cutting import cut_start

EPISODE = make_episode(3, length=20)
PLAIN = FitSettings()


def test_frames_and_the_actions_between_them() -> None:
    cut = cut_start(EPISODE, 9, 4, STANDIN_SAWYER, PLAIN)
    np.testing.assert_array_equal(cut.start.frames, EPISODE.frames[6:10])
    np.testing.assert_array_equal(cut.start.actions, EPISODE.actions[6:9])
    said = cut.start.id, cut.start.step, cut.start.length, cut.start.instruction, cut.start.task
    assert said == ("episode 3", 9, 20, "open drawer", "task 1")


@pytest.mark.parametrize(("shift", "first"), [(1, 7), (-2, 4)])
def test_actions_that_are_recorded_late_or_early(shift: int, first: int) -> None:
    start = cut_start(EPISODE, 9, 4, STANDIN_SAWYER, FitSettings(action_shift=shift)).start
    np.testing.assert_array_equal(start.frames, EPISODE.frames[6:10])
    np.testing.assert_array_equal(start.actions, EPISODE.actions[first : first + 3])
    assert start.step == 9


@pytest.mark.parametrize(("shift", "step"), [(1, 19), (-2, 4)])
def test_frames_that_lose_their_actions_are_refused(shift: int, step: int) -> None:
    settings = FitSettings(action_shift=shift)
    with pytest.raises(ValueError, match=rf"actions with action_shift={shift}, found {step - 3} t"):
        cut_start(EPISODE, step, 4, STANDIN_SAWYER, settings)
    assert len(cut_start(EPISODE, step, 1, STANDIN_SAWYER, settings).start.frames) == 1


def test_one_frame_has_no_rate() -> None:
    fast = replace(EPISODE, rate=30.0)
    assert cut_start(fast, 0, 1, STANDIN_SAWYER, PLAIN).start.actions.shape == (0, 13)
    with pytest.raises(ValueError, match="expected 3 frames per second"):
        cut_start(fast, 2, 2, STANDIN_SAWYER, PLAIN)


def test_without_recorded_actions_they_are_unknown() -> None:
    cut = cut_start(replace(EPISODE, actions=None), 2, 3, STANDIN_SAWYER, PLAIN)
    assert cut.start.actions.shape == (2, 13) and np.isnan(cut.start.actions).all()
    other = replace(EPISODE, actions=None, robot="google_robot")
    with pytest.raises(ValueError, match="of robot 'standin_sawyer', found one of 'google_robot'"):
        cut_start(other, 2, 3, STANDIN_SAWYER, PLAIN)
    large = replace(EPISODE, actions=None, frames=np.zeros((3, 128, 96, 3), np.uint8))
    with pytest.raises(ValueError, match="expected frames of 64 x 64 .* fit=true"):
        cut_start(large, 2, 3, STANDIN_SAWYER, PLAIN)
    fitted = cut_start(large, 2, 3, STANDIN_SAWYER, FitSettings(fit=True))
    assert fitted.start.frames.shape == (3, 64, 64, 3)


def test_corrections_and_missing_fields_are_told() -> None:
    hand = STANDIN_SAWYER.slices["world_vector"]
    actions = EPISODE.actions[:, hand].copy()
    actions[15] = 0.06  # after the start, but it says something of the episode
    fields = (("world_vector", 3),)
    part = replace(EPISODE, actions=actions, action_fields=fields)
    cut = cut_start(part, 2, 3, STANDIN_SAWYER, PLAIN)
    np.testing.assert_array_equal(cut.start.actions, EPISODE.actions[:2])
    assert cut.misfits.clipped == 3 and "terminate_episode" in cut.at_rest
