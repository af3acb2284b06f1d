"""What a judge answers is checked once, and a judge that does not fit is found out first."""

from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.evaluation.judges.checks import check_rollout_judge, judge_rollouts
from v2w_gym.evaluation.success import Verdicts, load_judge
from v2w_gym.world_models.copy_last import CopyLast

FRAMES = np.zeros((2, 3, 64, 64, 3), np.uint8)
RIGHT = Verdicts(
    success=np.array([True, False]),
    abstained=np.array([False, False]),
    score=np.array([0.9, 0.1]),
    opening=np.zeros((2, 3)),
    sigma=np.zeros((2, 3)),
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
    assert judge_rollouts(Answering(RIGHT), FRAMES, "close_drawer") is RIGHT


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
        judge_rollouts(Answering(answer), FRAMES, "close_drawer")
    assert "judge 'answering'" in str(error.value) and "\n" not in str(error.value)


def test_the_bundled_judge_fits_the_stand_in_and_no_other_robot():
    check_rollout_judge(load_judge(), CopyLast(STANDIN_SAWYER), ["close_drawer", "open_drawer"])
    with pytest.raises(ValueError, match="expected start to be a picture"):
        check_rollout_judge(load_judge(), CopyLast(GOOGLE_ROBOT), ["close_drawer"])


def test_what_is_no_judge_of_rollouts_is_refused():
    class NewestFrame:
        def success(self, frames, task):
            return np.zeros(len(frames), bool)

    with pytest.raises(ValueError, match="found NewestFrame without name, card, verdicts"):
        check_rollout_judge(NewestFrame(), CopyLast(STANDIN_SAWYER), ["close_drawer"])
