"""Comparisons of small tables whose every number can be worked out by hand."""

import math

import pandas as pd
import pytest

from v2w_gym.evaluation.compare.comparison import Comparison, compare
from v2w_gym.evaluation.compare.verdict import headline, verdict
from v2w_gym.evaluation.compare.writing import decimal, percent, points


def attempts(outcomes: dict[str, str], task: str = "close_drawer", seed: int = 0) -> pd.DataFrame:
    """Spell outcomes per start: 1 success, 0 failure, ? abstained."""
    rows = [
        {
            "policy": policy,
            "task": task,
            "start": start,
            "start_seed": 100 + start,
            "seed": seed,
            "success": {"1": True, "0": False, "?": None}[letter],
        }
        for policy, letters in outcomes.items()
        for start, letter in enumerate(letters)
    ]
    return pd.DataFrame(rows).astype({"success": object})


def texts(comparison: Comparison, kind: str) -> str:
    return " ".join(finding.text for finding in verdict(comparison) if finding.kind == kind)


def test_rates_and_paired_outcomes_by_hand() -> None:
    comparison = compare(attempts({"a": "1100"}), attempts({"a": "1010"}))
    cell = comparison.cell("close_drawer", "a")
    assert cell is not None
    assert (cell.simulated.value, cell.real.value, cell.simulated.n) == (0.5, 0.5, 4)
    assert (cell.paired.both, cell.paired.only_simulated, cell.paired.only_real) == (1, 1, 1)
    assert cell.paired.agreement == 0.5
    assert cell.paired.agreement_by_chance == 0.5
    assert cell.paired.phi == 0
    assert cell.paired.p_value == 1
    assert comparison.cell("close_drawer", "b") is None


def test_abstentions_are_counted_and_left_out() -> None:
    comparison = compare(attempts({"a": "1?0?"}), attempts({"a": "1111"}))
    rate = comparison.cells[0].simulated
    assert (rate.value, rate.n, rate.attempts, rate.abstained) == (0.5, 2, 2, 2)
    assert comparison.cells[0].paired.n == 2
    assert "abstained in 2 of 4 rollouts" in texts(comparison, "caution")


def test_a_policy_on_which_the_judge_always_abstains_is_left_out_and_named() -> None:
    comparison = compare(attempts({"a": "10", "b": "??"}), attempts({"a": "10", "b": "10"}))
    assert comparison.policies == ("a",)
    assert comparison.notes == (
        "b on close_drawer is left out: the judge abstained on every rollout.",
    )


def test_several_seeds_per_start_do_not_narrow_the_interval() -> None:
    once = compare(attempts({"a": "1100"}), attempts({"a": "1100"}))
    simulated = pd.concat([attempts({"a": "1100"}, seed=seed) for seed in range(5)])
    often = compare(simulated, attempts({"a": "1100"}))
    assert often.cells[0].simulated.attempts == 20
    assert often.cells[0].simulated.interval == once.cells[0].simulated.interval
    assert "Intervals and tests count starts" in texts(often, "caution")


def test_a_start_solved_by_one_seed_of_two_counts_half() -> None:
    simulated = pd.concat([attempts({"a": "10"}), attempts({"a": "11"}, seed=1)])
    cell = compare(simulated, attempts({"a": "11"})).cells[0]
    assert cell.simulated.successes == 1.5
    assert cell.paired.agreement == 0.75


def test_the_second_policy_of_a_missing_task_is_named() -> None:
    simulated = attempts({"a": "10", "b": "11"})
    comparison = compare(simulated, attempts({"b": "11", "c": "00"}))
    assert comparison.policies == ("b",)
    assert comparison.notes == (
        "a on close_drawer is not compared: there are no trials of it.",
        "c on close_drawer is left out: there are no rollouts of it.",
    )


def test_the_mean_of_tasks_takes_only_policies_with_all_tasks() -> None:
    outcomes = {"a": "0000", "b": "1100", "c": "1111"}
    both = pd.concat([attempts(outcomes), attempts({"a": "1000", "c": "1110"}, "open_drawer")])
    comparison = compare(both, both)
    mean = comparison.agreements[-1]
    assert mean.policies == ("a", "c")
    assert mean.real == (0.125, 0.875)
    assert "b is not in the mean of all tasks: it lacks a task." in comparison.notes


def test_a_name_that_nearly_has_trials_is_suggested() -> None:
    comparison = compare(attempts({"rt1_converged": "10"}), attempts({"rt1-converged": "10"}))
    assert comparison.compared == ()
    assert comparison.notes[0].endswith("there are no trials of it; did you mean 'rt1-converged'?")


@pytest.mark.parametrize("trials", ["", "others"])
def test_a_policy_that_was_never_tried_has_a_simulated_rate_and_no_real_one(trials: str) -> None:
    real = attempts({trials: "1111"} if trials else {"a": "1"}).iloc[: 4 * bool(trials)]
    comparison = compare(attempts({"mine": "1110?"}), real)
    [cell] = comparison.cells
    assert (cell.simulated.value, cell.simulated.n, cell.simulated.abstained) == (0.75, 4, 1)
    assert cell.simulated.interval == pytest.approx((0.301, 0.954), abs=1e-3)
    assert (cell.real.n, cell.compared) == (0, False)
    assert f"{cell.real.value:.2f}" == "nan"
    assert (comparison.compared, comparison.policies, comparison.tasks) == ((), (), ())
    assert (comparison.agreements, comparison.pairs) == ((), ())
    assert comparison.simulated_policies == ("mine",)
    assert "nothing can be concluded about the stand-in robot" in headline(comparison)
    assert "mine succeeds from 75 % [30 %, 95 %] of 4 starts" in texts(comparison, "supported")
    assert "The success of mine on the stand-in" in texts(comparison, "not supported")
    assert "abstained in 1 of 5 rollouts" in texts(comparison, "caution")
    assert "correlation" not in texts(comparison, "caution")


def test_a_policy_without_trials_changes_nothing_for_those_that_have_them() -> None:
    tried = {"a": "0001", "b": "0111", "c": "1111"}
    without = compare(attempts(tried), attempts(tried))
    beside = compare(attempts({**tried, "mine": "1100", "better": "1110"}), attempts(tried))
    for name in ("tasks", "policies", "compared", "agreements", "pairs"):
        assert repr(getattr(beside, name)) == repr(getattr(without, name))
    assert headline(beside) == headline(without)
    assert beside.simulated_policies == ("mine", "better", "a", "b", "c")
    assert "Only 3 policies" in texts(beside, "caution")


def test_a_policy_tried_on_one_task_of_two_is_compared_on_that_one() -> None:
    rollouts = [attempts({"a": "01", "b": "11"}, task) for task in ("close_drawer", "open_drawer")]
    comparison = compare(pd.concat(rollouts), attempts({"a": "01", "b": "11"}))
    assert comparison.tasks == ("close_drawer",)
    assert comparison.simulated_tasks == ("close_drawer", "open_drawer")
    assert [(cell.task, cell.compared) for cell in comparison.cells] == [
        ("close_drawer", True),
        ("close_drawer", True),
        ("open_drawer", False),
        ("open_drawer", False),
    ]
    assert len(comparison.agreements) == 1
    assert "b on open_drawer is not compared: there are no trials of it." in comparison.notes


def test_doing_nothing_without_trials_is_still_held_against_the_world_model() -> None:
    caution = texts(compare(attempts({"zero": "1000"}), attempts({"a": "1"})), "caution")
    assert "25 % [5 %, 70 %] of its rollouts. The excess is hallucinated" in caution


def test_other_scenes_under_the_same_index_are_refused() -> None:
    real = attempts({"a": "10"}).assign(start_seed=[100, 7])
    with pytest.raises(ValueError, match=r"start 1 of close_drawer .* 101 in simulation and 7"):
        compare(attempts({"a": "10"}), real)


def test_repeated_rows_are_refused() -> None:
    simulated = attempts({"a": "10"})
    with pytest.raises(ValueError, match="found 2 repeated"):
        compare(pd.concat([simulated, simulated]), attempts({"a": "10"}))


@pytest.mark.parametrize("column", ["model_fingerprint", "judge", "policy_fingerprint"])
def test_a_mix_of_sources_is_refused(column: str) -> None:
    simulated = attempts({"a": "10"}).assign(**{column: ["one", "two"]})
    with pytest.raises(ValueError, match=rf"one {column}.*\['one', 'two'\]"):
        compare(simulated, attempts({"a": "10"}))


def test_a_missing_column_and_an_odd_outcome_are_refused() -> None:
    good = attempts({"a": "10"})
    with pytest.raises(ValueError, match=r"real trials to have columns .* add \['start_seed'\]"):
        compare(good, good.drop(columns="start_seed"))
    with pytest.raises(ValueError, match="true, false or empty"):
        compare(good.assign(success=[1, 2]), good)


def test_trials_of_other_weights_are_named() -> None:
    good = attempts({"a": "10"})
    comparison = compare(
        good.assign(policy_fingerprint="new"), good.assign(policy_fingerprint="old")
    )
    assert (
        "other weights or driver settings (fingerprint old) than its rollouts (new)"
        in comparison.notes[0]
    )


def test_the_same_tables_give_the_same_intervals() -> None:
    outcomes = {"a": "0001", "b": "0111", "c": "1111"}
    tables = attempts(outcomes), attempts(outcomes)
    assert repr(compare(*tables)) == repr(compare(*tables))  # as text, where NaN equals NaN


def test_intervals_hold_the_estimate_and_shrink_with_more_starts() -> None:
    widths = []
    for times in (4, 40):
        outcomes = {"a": "0001" * times, "b": "0111" * times, "c": "1111" * times}
        r = compare(attempts(outcomes), attempts(outcomes)).agreements[0].summaries["pearson"]
        assert r.low <= r.value <= r.high
        assert r.value == pytest.approx(1)
        widths.append(r.high - r.low)
    assert widths[1] < widths[0] / 3


def test_a_constant_simulation_has_no_correlation_and_says_so() -> None:
    same = {"a": "1100", "b": "1100", "c": "1100"}
    comparison = compare(attempts(same), attempts({"a": "0000", "b": "1100", "c": "1111"}))
    assert not comparison.agreements[0].summaries["pearson"].defined
    assert "r is undefined because all policies have the same success rate in simulation" in texts(
        comparison, "not supported"
    )
    assert headline(comparison) == "With 3 policies, no correlation can be computed."


def test_two_policies_are_no_correlation() -> None:
    comparison = compare(*[attempts({"a": "0000", "b": "1111"})] * 2)
    assert "r needs at least three policies. This comparison has 2" in texts(
        comparison, "not supported"
    )


def test_pairs_that_differ_on_each_side() -> None:
    zeros, ones = "0" * 20, "1" * 20
    simulated = attempts({"a": zeros, "b": ones, "c": zeros})
    real = attempts({"a": zeros, "b": ones, "c": ones})
    separations = {(p.first, p.second): p.separation for p in compare(simulated, real).pairs}
    assert separations == {
        ("a", "b"): "same order",
        ("a", "c"): "only real",
        ("b", "c"): "only simulated",
    }
    opposite = compare(attempts({"a": ones, "b": zeros}), attempts({"a": zeros, "b": ones}))
    assert opposite.pairs[0].separation == "opposite order"
    assert "The world model ranks these pairs wrongly" in texts(opposite, "not supported")


def test_holm_is_applied_over_the_pairs_of_a_task() -> None:
    outcomes = {"a": "0" * 6, "b": "1" * 6, "c": "0" * 6}
    pairs = compare(attempts(outcomes), attempts(outcomes)).pairs
    assert sorted(p.p_real for p in pairs) == pytest.approx([3 / 32, 3 / 32, 1])  # each alone: 1/32


def test_success_of_doing_nothing_is_named() -> None:
    comparison = compare(attempts({"zero": "1000"}), attempts({"zero": "0000"}))
    caution = texts(comparison, "caution")
    assert "the policy that does nothing succeeds in 25 % [5 %, 70 %]" in caution
    assert "hallucinated success" in caution


def test_the_standin_is_never_called_a_real_robot() -> None:
    table = attempts({"a": "10"})
    assert "is a simulated robot" in texts(compare(table, table), "caution")
    real_robot = compare(table, table, reference="robot in lab 3")
    assert "is a simulated robot" not in texts(real_robot, "caution")


def test_few_policies_never_support_a_claim_about_other_policies() -> None:
    outcomes = {"a": "0" * 60, "b": "01" * 30, "c": "1" * 60}
    comparison = compare(attempts(outcomes), attempts(outcomes))
    assert "r = " not in texts(comparison, "supported")
    assert "it is not shown for others" in texts(comparison, "not supported")
    assert "right with probability 1/6" in texts(comparison, "caution")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (decimal(0.99999), "0.999"),
        (decimal(1.0), "1.00"),
        (decimal(-0.5), "\N{MINUS SIGN}0.50"),
        (decimal(math.nan), "undefined"),
        (points(-0.001), "0"),
        (points(0.126), "+13"),
        (percent(0.5), "50 %"),
        (percent(math.nan), "\N{EN DASH}"),
    ],
)
def test_numbers_are_written_without_claiming_more_than_they_are(
    written: str, expected: str
) -> None:
    assert written == expected
