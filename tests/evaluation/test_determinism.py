"""Batch size changes rounding in the frames, and nothing that is counted.

`pytest -s -m slow tests/evaluation/test_determinism.py` prints the figures of docs/determinism.md.
"""

import numpy as np
import pytest
import torch

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation.records.rows import ROWS, read_rows
from v2w_gym.evaluation.rollout import run_rollouts
from v2w_gym.judges.loading import load_judge
from v2w_gym.policies.loading import make_policies
from v2w_gym.world_models.loading import load_world_model

COUNTED = ["policy", "task", "start", "seed", "success", "steps", "events"]
FEW = ("random", "rt1-15")
MANY = ("rt1-begin", "rt1-15", "rt1-25", "rt1-40", "rt1-converged", "planner")


class Keeping:
    """The bundled judge; it keeps the frames of every rollout that it judges."""

    def __init__(self):
        self.judge, self.videos = load_judge(None, STANDIN_SAWYER), []
        self.name, self.card, self.success = self.judge.name, self.judge.card, self.judge.success

    def verdicts(self, frames, task):
        self.videos.append(frames[0].astype(int))
        return self.judge.verdicts(frames, task)


def roll(folder, batch_size, policies=FEW, starts=4, task="close_drawer"):
    """Return the rows of rollouts in the bundled world model, and the frames of each by its key."""
    torch.set_num_threads(1)
    cfg = RankConfig(output=str(folder), tasks=[task], starts=starts, batch_size=batch_size)
    judge = Keeping()
    with make_policies(policies, STANDIN_SAWYER) as acting:
        rows = run_rollouts(cfg, load_world_model(), acting, judge)
    keys = [row.key for row in read_rows(folder / ROWS)]
    return rows, dict(zip(keys, judge.videos[-len(keys) :], strict=True))


def check_same(one, other, what):
    """Check that all that is counted is equal, and say how far the rest differs."""
    (rows, frames), (others, shown) = one, other
    assert rows[COUNTED].to_dict() == others[COUNTED].to_dict()
    apart = [np.abs(video - shown[key]).max(axis=-1) for key, video in frames.items()]
    levels = np.concatenate([gap.ravel() for gap in apart])
    worst = max((gap > 0).mean(axis=(1, 2)).max() for gap in apart)
    scores = np.abs(rows["score"] - others["score"]).max()
    print(
        f"\n{what}: {len(rows)} rollouts, {sum(map(len, apart))} frames; verdicts, steps and "
        f"events equal; scores up to {scores:.4f} apart; frames up to {levels.max()} grey levels "
        f"apart, in {(levels > 0).mean():.4%} of all pixels and {worst:.2%} of the worst frame"
    )
    assert scores < 0.01
    assert levels.mean() < 0.1


def test_batch_size_changes_no_verdict_step_or_event(tmp_path):
    check_same(roll(tmp_path / "1", 1), roll(tmp_path / "3", 3), "batch size 3")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["close_drawer", "open_drawer"])
def test_nor_does_it_over_more_policies_and_starts(tmp_path, task):
    one = roll(tmp_path / "1", 1, MANY, starts=4, task=task)
    for size in (3, 8, 16):
        other = roll(tmp_path / str(size), size, MANY, starts=4, task=task)
        check_same(one, other, f"{task}, batch size {size}")
