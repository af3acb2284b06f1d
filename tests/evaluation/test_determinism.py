"""Batch size changes rounding in the frames, and nothing that is counted."""

import numpy as np
import pytest
import torch

from configs.evaluate import RankConfig
from configs.robots import STANDIN_SAWYER
from evaluation.rollout import run_rollouts
from evaluation.rows import ROWS, read_rows
from evaluation.success import load_judge
from policies.loading import load_drivers
from world_models.loading import load_world_model

COUNTED = ["policy", "task", "start", "seed", "success", "steps", "events"]
POLICIES = ("random", "rt1-15")


class Keeping:
    """The bundled judge; it keeps the frames of every rollout that it judges."""

    def __init__(self):
        self.judge, self.videos = load_judge(), []
        self.name, self.card, self.success = self.judge.name, self.judge.card, self.judge.success

    def verdicts(self, frames, task):
        self.videos.append(frames[0].astype(int))
        return self.judge.verdicts(frames, task)


def roll(folder, batch_size, policies=POLICIES, starts=4):
    """Return the rows of rollouts of the bundled study, and the frames of each by its key."""
    cfg = RankConfig(
        output=str(folder), tasks=["close_drawer"], starts=starts, batch_size=batch_size
    )
    judge = Keeping()
    with load_drivers(policies, STANDIN_SAWYER) as drivers:
        rows = run_rollouts(cfg, load_world_model(), drivers, judge)
    keys = [row.key for row in read_rows(folder / ROWS)]
    return rows, dict(zip(keys, judge.videos[-len(keys) :], strict=True))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    torch.set_num_threads(1)
    return roll(tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("batch_size", [3, 4])
def test_batch_size_changes_no_verdict_step_or_event(alone, tmp_path, batch_size):
    rows, frames = roll(tmp_path, batch_size)
    assert rows[COUNTED].to_dict() == alone[0][COUNTED].to_dict()
    assert np.abs(rows["score"] - alone[0]["score"]).max() < 0.01
    for key, video in frames.items():
        assert np.abs(video - alone[1][key]).mean() < 0.1
