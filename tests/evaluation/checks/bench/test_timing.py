"""Who is compared takes turns, and the least time counts."""

import pytest
import torch

from v2w_gym.evaluation.checks.bench import timing
from v2w_gym.evaluation.checks.bench.timing import fastest, percentiles


def test_everybody_takes_turns_and_the_least_time_counts(monkeypatch) -> None:
    times = iter([5.0, 2.0, 3.0, 4.0, 1.0, 6.0])
    called = []

    def seconds(work, device):
        work()
        return next(times)

    monkeypatch.setattr(timing, "seconds", seconds)
    turn = [("naive", lambda: called.append("n"))] + [("ours", lambda: called.append("o"))] * 2
    assert fastest(turn, 2, torch.device("cpu")) == {"naive": 4.0, "ours": 1.0}
    assert called == ["n", "o", "o"] * 2


def test_processor_time_leaves_out_waiting() -> None:
    device = torch.device("cpu")
    wait = timing.time.sleep
    assert timing.seconds(lambda: wait(0.2), device) < 0.1
    assert timing.wall_seconds(lambda: wait(0.2), device) >= 0.2


def test_percentiles() -> None:
    assert percentiles([3.0, 1.0, 2.0]) == pytest.approx((2.0, 2.98))
