"""A judge that does not fit a world model or its tasks is an error before the first rollout."""

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.evaluation.judges.checks import check_rollout_judge
from v2w_gym.judges.loading import load_judge
from v2w_gym.world_models.copy_last import CopyLast


def test_the_bundled_judge_fits_the_stand_in_and_no_other_robot():
    judge = load_judge(None, STANDIN_SAWYER)
    check_rollout_judge(judge, CopyLast(STANDIN_SAWYER), ["close_drawer", "open_drawer"])
    with pytest.raises(ValueError, match="expected start to be a picture"):
        check_rollout_judge(judge, CopyLast(GOOGLE_ROBOT), ["close_drawer"])


def test_what_is_no_judge_of_rollouts_is_refused():
    class NewestFrame:
        def success(self, frames, task):
            return np.zeros(len(frames), bool)

    with pytest.raises(ValueError, match="found NewestFrame without name, card, verdicts"):
        check_rollout_judge(NewestFrame(), CopyLast(STANDIN_SAWYER), ["close_drawer"])
