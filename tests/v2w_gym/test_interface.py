"""The progress of an attempt: success, end and counts."""

import warnings

import numpy as np
import pytest

from v2w_gym.configs.tasks import TASKS
from v2w_gym.interface import Progress, RolloutKey, checked_success, next_key

CALM = {"stopped": False, "clipped": False, "not_one_hot": False}


def first_success(solved, start=False):
    """The number of the first frame at which an attempt is a success; None for never."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        progress = Progress(judged=True).began(start)
    for frame in range(1, 11):
        progress = progress.observed(frame in solved)
        assert progress.terminated is progress.success
        if progress.success:
            return frame
    return None


@pytest.mark.parametrize(
    ("solved", "frame"), [({3, 4}, 4), ({2, 4, 6, 7}, 7), ({1, 2}, 2), ({5}, None), (set(), None)]
)
def test_a_success_stays_solved_for_two_frames(solved, frame):
    assert first_success(solved) == frame


@pytest.mark.parametrize("solved", [{1, 2, 3}, {1}, {5, 6, 7}, set()])
def test_what_was_solved_at_the_start_is_never_the_policys_success(solved):
    assert first_success(solved, start=True) is None


def test_a_task_that_is_solved_at_the_start_gives_a_warning():
    with pytest.warns(UserWarning, match="solved already at the start"):
        progress = Progress(judged=True).began(True)
    assert progress.info(TASKS["close_drawer"], RolloutKey(1, 2))["solved_at_start"] is True


def test_actions_are_counted_and_the_last_one_may_end_the_attempt():
    progress = Progress(judged=False)
    for events in (
        {"clipped": True},
        {"not_one_hot": True, "clipped": True},
        {},
        {"stopped": True},
    ):
        assert not progress.terminated
        progress = progress.acted(**{**CALM, **events})
    assert progress.terminated
    info = progress.info(TASKS["open_drawer"], RolloutKey(7, 3))
    assert info == {
        "task": "open_drawer",
        "instruction": "open the drawer",
        "seed": 7,
        "episode_index": 3,
        "actions_clipped": 2,
        "actions_not_one_hot": 1,
    }


@pytest.mark.parametrize("value", [-1, 2**63, 1.5, True, "1", None])
def test_a_key_is_two_whole_numbers(value):
    with pytest.raises(ValueError, match="expected episode from 0"):
        RolloutKey(0, value)


def test_a_seed_begins_with_episode_0_and_none_counts_on():
    rng = np.random.default_rng(0)
    assert next_key(RolloutKey(3, 5), 9, rng) == RolloutKey(9, 0)
    assert next_key(RolloutKey(3, 5), None, rng) == RolloutKey(3, 6)
    assert next_key(None, None, rng).episode == 0


class Steps:
    def __init__(self, answer):
        self.answer = answer

    def success(self, frames, task):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ([True, False], "found list"),
        (None, "found NoneType"),
        (np.array([True]), r"found bool \(1,\)"),
        (np.array([[True, False]]), r"found bool \(1, 2\)"),
        (np.array([1.0, np.nan]), r"found float64 \(2,\)"),
    ],
)
def test_a_judge_answers_with_one_bool_per_video(answer, found):
    videos = np.zeros((2, 3, 8, 8, 3), np.uint8)
    assert checked_success(Steps(np.array([True, False])), videos, "close_drawer") == [True, False]
    with pytest.raises(ValueError, match=found):
        checked_success(Steps(answer), videos, "close_drawer")
