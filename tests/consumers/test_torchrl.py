"""TorchRL checks, steps and collects in our environments."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def results(results_of):
    return results_of("torchrl_program.py", "V2W_RL_PYTHON")


def test_a_rollout_ends_at_the_time_limit(results):
    assert results["scalar"] == [6, [False] * 5 + [True]]


def test_slots_end_and_are_reset_one_by_one(results):
    ends = [[0, 0], [0, 0], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0], [1, 0]]
    assert results["stepped"] == ends


def test_the_collector_resets_slots(results):
    assert results["collected"] == [[0, 0, 0, 1, 0, 0, 0, 1, 0, 0]] * 2
