"""Stable-Baselines3 checks, evaluates in and trains in our environments."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def results(results_of):
    return results_of("sb3_program.py", "V2W_RL_PYTHON")


def test_evaluate_policy_counts_successes(results):
    evaluated = results["evaluated"]
    assert (
        evaluated["rewards"] == [1] * 7
        and evaluated["lengths"] == [4] * 7
        and evaluated["solved"] == 7
    )


def test_a_policy_that_does_nothing_lasts_as_long_as_the_time_limit(results):
    assert results["resting"] == [10] * 4


def test_no_exploring_action_ends_an_episode(results):
    assert results["trained"] == [10] * 6


def test_forked_workers_answer(results):
    assert results["subprocesses"] == [2, 64, 64, 3]
