"""Any judge of single frames gets its verdicts on rollouts from the same rule.

An answer that says nothing about the rollouts is refused.
"""

from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.judges.base import Judge, MeasuringJudge, Verdicts, checked_verdicts, decide
from v2w_gym.judges.drawer import DrawerJudge, OpeningNetwork

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
    assert checked_verdicts(Answering(RIGHT), FRAMES, "close_drawer") is RIGHT


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
        checked_verdicts(Answering(answer), FRAMES, "close_drawer")
    assert "judge 'answering'" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("solved", "readable", "success", "abstained"),
    [
        ("0011", "1111", True, False),
        ("0101", "1111", False, False),  # never two in a row
        ("1100", "1111", False, True),  # solved before the first action
        ("0010", "1110", False, True),  # the last frame would decide
        ("0110", "0110", True, False),  # a success counts all the same
        ("0", "1", False, False),
        ("0", "0", False, False),  # one frame proves nothing, readable or not
    ],
)
def test_success_and_abstention_follow_from_single_frames(solved, readable, success, abstained):
    solved, readable = (np.array([[c == "1" for c in text]]) for text in (solved, readable))
    verdicts = decide(solved, readable, solved.astype(float))
    assert (verdicts.success.tolist(), verdicts.abstained.tolist()) == ([success], [abstained])


def test_the_score_is_the_weaker_frame_of_the_best_pair():
    confidence = np.array([[0.9, 0.2, 0.6, 0.7], [0.1, 0.1, 0.1, 0.3]])
    yes = np.ones((2, 4), bool)
    np.testing.assert_array_equal(decide(yes, yes, confidence).score, [0.6, 0.1])


def test_the_drawer_judge_is_a_judge_that_measures():
    judge: Judge = DrawerJudge(OpeningNetwork(), {"sha256": "0" * 64})
    assert isinstance(judge, MeasuringJudge)
    frames = np.zeros((2, 3, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(judge.reading(frames), judge.opening(frames)[0])
