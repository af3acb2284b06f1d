"""Any judge of single frames gets its verdicts on rollouts from the same rule."""

import numpy as np
import pytest

from v2w_gym.judges.base import Judge, MeasuringJudge, decide
from v2w_gym.judges.drawer import DrawerJudge, OpeningNetwork


@pytest.mark.parametrize(
    ("solved", "readable", "success", "abstained"),
    [
        ("0011", "1111", True, False),
        ("0101", "1111", False, False),  # never two in a row
        ("1100", "1111", False, True),  # solved before the first action
        ("0010", "1110", False, True),  # the last frame would decide
        ("0110", "0110", True, False),  # what was seen stands
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
