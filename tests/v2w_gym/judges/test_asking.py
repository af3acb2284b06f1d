"""What a judge answers is checked once; an answer that says nothing is refused."""

from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.judges.asking import ask_success, ask_verdicts
from v2w_gym.judges.base import Verdicts

FRAMES = np.zeros((2, 3, 64, 64, 3), np.uint8)
RIGHT = Verdicts(
    success=np.array([True, False]),
    abstained=np.array([False, False]),
    score=np.array([0.9, 0.1]),
)


class Answering:
    name = "answering"
    card = {"kind": "answering"}

    def __init__(self, answer):
        self.answer = answer

    def success(self, frames, task):
        return np.zeros(len(frames), bool)

    def verdicts(self, frames, task):
        return self.answer


def test_right_verdicts_are_handed_on():
    assert ask_verdicts(Answering(RIGHT), FRAMES, "close_drawer") is RIGHT


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([True, False], r"`success` .* of bool with shape \(2,\), one value per .* found NoneType"),
        (None, "found NoneType"),
        (replace(RIGHT, success=[True, False]), "`success` .* found list"),
        (replace(RIGHT, success=np.array([1.0, np.nan])), r"found float64 \(2,\)"),
        (replace(RIGHT, success=np.array([1, 0])), r"found int64 \(2,\)"),
        (replace(RIGHT, success=np.array([True])), r"found bool \(1,\)"),
        (replace(RIGHT, abstained=np.zeros((2, 1), bool)), r"`abstained` .* found bool \(2, 1\)"),
        (replace(RIGHT, score=np.array([0.5, np.nan])), "scores from 0 to 1 .* found nan"),
        (replace(RIGHT, score=np.array([0.5, 1.5])), "scores from 0 to 1 .* found 1.5"),
        (replace(RIGHT, score=0.5), "`score` .* found float"),
    ],
)
def test_what_says_nothing_about_the_attempts_is_refused(answer, message):
    with pytest.raises(ValueError, match=message) as error:
        ask_verdicts(Answering(answer), FRAMES, "close_drawer")
    assert "judge 'answering'" in str(error.value) and "\n" not in str(error.value)


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
    assert ask_success(Steps(np.array([True, False])), videos, "close_drawer") == [True, False]
    with pytest.raises(ValueError, match=found):
        ask_success(Steps(answer), videos, "close_drawer")
