"""Chunks are executed up to the horizon, or averaged as ACT and Octo do."""

from collections.abc import Sequence

import numpy as np
import pytest

from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.policies.processing.chunks import (
    Queue,
    add_chunk,
    check_chunks,
    needs_chunk,
    next_action,
)


def carry_out(chunks: Sequence[Sequence[float]], steps: int, cfg: ProcessingConfig) -> list[float]:
    """Actions of one value in `steps` steps; each request gives the next of `chunks`."""
    plan: Queue = ()
    left, done = list(chunks), []
    for _ in range(steps):
        if needs_chunk(plan, cfg):
            plan = add_chunk(plan, np.array(left.pop(0), np.float32)[:, None], cfg)
        plan, action = next_action(plan, cfg)
        assert action.dtype == np.float32
        done.append(float(action[0]))
    return done


CHUNKS = [[10, 11, 12], [20, 21, 22], [30, 31, 32], [40, 41, 42]]


@pytest.mark.parametrize(
    ("horizon", "wanted"),
    [
        (0, [10, 11, 12, 20, 21, 22]),
        (3, [10, 11, 12, 20, 21, 22]),
        (2, [10, 11, 20, 21, 30, 31]),
        (1, [10, 20, 30, 40]),
    ],
)
def test_a_chunk_is_carried_out_up_to_its_horizon(horizon: int, wanted: list[float]) -> None:
    cfg = ProcessingConfig(execution_horizon=horizon)
    assert carry_out(CHUNKS, len(wanted), cfg) == wanted


def test_without_weights_an_ensemble_is_the_mean() -> None:
    """The fourth step averages 22, 31 and 40; the first chunk is used up."""
    wanted = [10, (11 + 20) / 2, (12 + 21 + 30) / 3, (22 + 31 + 40) / 3]
    assert carry_out(CHUNKS, 4, ProcessingConfig(ensemble=0.0)) == pytest.approx(wanted)


def test_an_older_answer_weighs_more() -> None:
    """With ensemble = ln 2, each chunk weighs half as much as the one before it."""
    wanted = [10, (2 * 11 + 20) / 3, (4 * 12 + 2 * 21 + 30) / 7, (4 * 22 + 2 * 31 + 40) / 7]
    cfg = ProcessingConfig(ensemble=float(np.log(2)))
    assert carry_out(CHUNKS, 4, cfg) == pytest.approx(wanted)


def test_a_negative_weight_favours_the_newest() -> None:
    wanted = [10, (11 + 2 * 20) / 3, (12 + 2 * 21 + 4 * 30) / 7]
    cfg = ProcessingConfig(ensemble=-float(np.log(2)))
    assert carry_out(CHUNKS, 3, cfg) == pytest.approx(wanted)


def test_extreme_weights_choose_one_answer() -> None:
    assert carry_out(CHUNKS, 4, ProcessingConfig(ensemble=-1e6)) == [10, 20, 30, 40]
    assert carry_out(CHUNKS, 4, ProcessingConfig(ensemble=1e6)) == [10, 11, 12, 22]


def test_an_ensemble_of_single_actions_is_no_ensemble() -> None:
    assert carry_out([[1], [2], [3]], 3, ProcessingConfig(ensemble=0.5)) == [1, 2, 3]


def test_a_plan_is_not_changed() -> None:
    cfg = ProcessingConfig(ensemble=0.0)
    plan = add_chunk((), np.arange(6, dtype=np.float32).reshape(3, 2), cfg)
    next_action(plan, cfg)
    assert (plan[0] == np.arange(6).reshape(3, 2)).all()


def test_horizons_must_fit_the_chunk() -> None:
    check_chunks(ProcessingConfig(execution_horizon=4), chunk=4)
    with pytest.raises(ValueError, match=r"between 0 .all. and 4, .* found 5"):
        check_chunks(ProcessingConfig(execution_horizon=5), chunk=4)
    with pytest.raises(ValueError, match="found -1"):
        check_chunks(ProcessingConfig(execution_horizon=-1), chunk=4)
    with pytest.raises(ValueError, match="chunks of at least 1 action, found 0"):
        check_chunks(ProcessingConfig(), chunk=0)


def test_an_ensemble_asks_in_every_step() -> None:
    check_chunks(ProcessingConfig(execution_horizon=1, ensemble=0.0), chunk=4)
    with pytest.raises(ValueError, match="execution_horizon=0 or 1 together with an ensemble"):
        check_chunks(ProcessingConfig(execution_horizon=2, ensemble=0.0), chunk=4)
    with pytest.raises(ValueError, match="cannot set ensemble: expected a finite number"):
        check_chunks(ProcessingConfig(ensemble=float("nan")), chunk=4)
