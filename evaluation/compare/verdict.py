"""Say in plain sentences what a comparison supports, and what it does not.

A rollout is one attempt in the world model. A trial is one attempt on the robot.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from v2w_gym.evaluation.compare.comparison import (
    MEAN_OF_TASKS,
    STANDIN,
    Agreement,
    Comparison,
    Pair,
    Told,
)
from v2w_gym.evaluation.compare.statistics import chance_of_perfect_order
from v2w_gym.evaluation.compare.writing import decimal, percent, points, with_interval

FEW_POLICIES = 8
"""Below this many policies every statistic of a ranking is weak evidence."""
CONFIDENT = 0.95
NAMED = 4
"""How many pairs a sentence names before it counts the rest."""
DO_NOTHING = "zero"
"""Name of the policy that does nothing."""
Kind = Literal["supported", "not supported", "caution"]
SEPARATION: tuple[tuple[Told, Kind, str, str], ...] = (
    ("same order", "supported", "can be told apart on both sides, in the same order", ""),
    (
        "opposite order",
        "not supported",
        "can be told apart on both sides, in opposite orders",
        " The world model ranks these pairs wrongly.",
    ),
    (
        "only simulated",
        "not supported",
        "can be told apart in the world model but not on the {reference}",
        " No trial confirms their simulated order.",
    ),
    (
        "only real",
        "not supported",
        "can be told apart on the {reference} but not in the world model",
        "",
    ),
    (
        "neither",
        "not supported",
        "cannot be told apart on either side with this number of starts",
        " This is no evidence that they are equal.",
    ),
)
"""Sentence about the pairs of each kind: whether it supports, what was found, what follows."""


@dataclass(frozen=True)
class Finding:
    """One sentence or two of the verdict.

    Attributes:
        kind: What the numbers support, what they do not, or what to keep in mind.
        text: The sentences.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def headline(comparison: Comparison) -> str:
    """Return the verdict in one sentence, about the mean of the tasks if there are several."""
    if not comparison.compared:
        return (
            "Simulated success rates only. Without trials, nothing can be concluded about the "
            f"{comparison.reference}."
        )
    overall = comparison.agreements[-1]
    r, k = overall.summaries["pearson"], len(overall.policies)
    where = "" if len(comparison.tasks) == 1 else f" ({overall.task})"
    if not r.defined or k < 3:
        return f"With {_count(k, 'policy')}{where} no correlation can be judged."
    return (
        f"Over {k} policies{where}, success in the world model and on the {comparison.reference} "
        f"correlate with r = {with_interval(r)}."
    )


def verdict(comparison: Comparison) -> tuple[Finding, ...]:
    """Return every finding, the most general first."""
    return tuple(finding for part in PARTS for finding in part(comparison))


def _only_simulated(comparison: Comparison) -> Iterator[Finding]:
    lacking = [cell for cell in comparison.cells if cell.simulated.n and not cell.real.n]
    for cell in lacking:
        rate = cell.simulated
        low, high = map(percent, rate.interval)
        yield Finding(
            "supported",
            f"{cell.task}: {cell.policy} succeeds from {percent(rate.value)} [{low}, {high}] of "
            f"{_count(rate.n, 'start')} in this world model, according to its judge.",
        )
    if lacking:
        names = ", ".join(dict.fromkeys(cell.policy for cell in lacking))
        yield Finding(
            "not supported",
            f"How often {names} would succeed on the {comparison.reference} is unknown. There are "
            "no trials to compare with, and a world model may overestimate or underestimate any "
            "policy. `v2w trials` records trials.",
        )


def _reference(comparison: Comparison) -> Iterator[Finding]:
    if comparison.compared and comparison.reference == STANDIN:
        yield Finding(
            "caution",
            'The reference called "stand-in robot" is a simulated robot. Nothing on this page was '
            "measured on a real robot. Agreement with the stand-in does not show agreement with a "
            "real robot.",
        )


def _few_policies(comparison: Comparison) -> Iterator[Finding]:
    k = len(comparison.policies)
    if 0 < k < FEW_POLICIES:
        orders = f"{round(1 / chance_of_perfect_order(k)):,}"
        yield Finding(
            "caution",
            f"Only {_count(k, 'policy')}: below {FEW_POLICIES}, every correlation and rank "
            f"statistic is weak evidence. A random order of {k} policies is right once in {orders} "
            f"times, so no test of the order can give a p value below 1/{orders}.",
        )


def _per_task(comparison: Comparison) -> Iterator[Finding]:
    for agreement in comparison.agreements:
        yield _correlation(agreement)
        if len(agreement.policies) > 1:
            yield _best(agreement)
            yield _bias(agreement)
        pairs = [pair for pair in comparison.pairs if pair.task == agreement.task]
        if pairs:
            yield from _separation(agreement.task, pairs, comparison.reference)


def _correlation(agreement: Agreement) -> Finding:
    k, r, name = len(agreement.policies), agreement.summaries["pearson"], _title(agreement)
    if k < 3:
        text = f"{name}: r needs at least three policies. This comparison has {k}."
        return Finding("not supported", text)
    if not r.defined:
        side = "simulation" if len(set(agreement.simulated)) == 1 else "reality"
        text = f"{name}: r is undefined because all policies have the same success rate in {side}."
        return Finding("not supported", text)
    text = (
        f"{name}, k = {k} policies: r = {with_interval(r)}. The interval carries the noise of a "
        "limited number of starts."
    )
    if k > 3:
        low, high = map(decimal, agreement.pearson_without_one)
        text += f" Without any one policy, r is {low} to {high}."
        low, high = map(decimal, agreement.pearson_other_policies)
        text += f" As a guess for other policies, r is in [{low}, {high}]."
    if r.low > 0 and agreement.pearson_other_policies[0] > 0:
        return Finding("supported", f"{text} Higher simulated rates go with higher real rates.")
    if r.low > 0:
        text += " The relation holds for these policies and is not shown to carry over to others."
        return Finding("not supported", text)
    return Finding("not supported", f"{text} No relation is established.")


def _best(agreement: Agreement) -> Finding:
    regret, sure = agreement.summaries["regret"], agreement.top1_probability
    text = (
        f"{_title(agreement)}: the best policy in the world model ({_winners(agreement)}) is the "
        f"best one in reality with probability {decimal(sure)}. Choosing it costs "
        f"{with_interval(regret, percent)} of real success."
    )
    if sure >= CONFIDENT:
        return Finding("supported", text)
    return Finding("not supported", f"{text} The best policy cannot be named with confidence.")


def _bias(agreement: Agreement) -> Finding:
    bias, slope = agreement.summaries["mean_bias"], agreement.summaries["slope"]
    text = (
        f"{_title(agreement)}: simulated minus real success is {with_interval(bias, points)} "
        "points on average"
    )
    if bias.low > 0 or bias.high < 0:
        error = "overestimates" if bias.value > 0 else "underestimates"
        text += f", so the world model {error} these policies."
    else:
        text += ", so no overall bias is shown."
    if slope.defined and slope.high < 1:
        text += (
            f" A real difference of 10 points shows as {10 * slope.value:.0f} in simulation. Noise "
            "in the real rates explains part of this shrinking."
        )
    return Finding("caution", f"{text} Read simulated rates as a ranking, not as success rates.")


def _separation(task: str, pairs: list[Pair], reference: str) -> Iterator[Finding]:
    for told, kind, where, conclusion in SEPARATION:
        named = [f"{pair.first} and {pair.second}" for pair in pairs if pair.told == told]
        if named:
            rest = f", and {len(named) - NAMED} more" if len(named) > NAMED else ""
            yield Finding(
                kind,
                f"{task}: of {_count(len(pairs), 'pair')} of policies, {len(named)} "
                f"{where.format(reference=reference)}: {', '.join(named[:NAMED])}{rest}."
                f"{conclusion}",
            )


def _do_nothing(comparison: Comparison) -> Iterator[Finding]:
    for cell in (c for c in comparison.cells if c.policy == DO_NOTHING and c.simulated.n):
        low, high = map(percent, cell.simulated.interval)
        real = cell.real.value if cell.real.n else 0.0
        excess = cell.simulated.value > real
        yield Finding(
            "caution",
            f"{cell.task}: the policy that does nothing succeeds in "
            f"{percent(cell.simulated.value)} [{low}, {high}] of its rollouts"
            + (f" and {percent(real)} of its trials. " if cell.real.n else ". ")
            + ("Read the excess as hallucinated success." if excess else "There is no excess."),
        )


def _same_start(comparison: Comparison) -> Iterator[Finding]:
    for task in comparison.tasks:
        paired = [c.paired for c in comparison.compared if c.task == task and c.paired.n]
        n = sum(p.n for p in paired)
        if not n:
            text = f"{task}: no start has both a rollout and a trial, so nothing can be paired."
            yield Finding("not supported", text)
            continue
        agreement = sum(p.agreement * p.n for p in paired) / n
        by_chance = sum(p.agreement_by_chance * p.n for p in paired) / n
        yield Finding(
            "caution",
            f"{task}: from the same start, rollout and trial end the same way in "
            f"{percent(agreement)} of {n} cases. Success rates alone would give "
            f"{percent(by_chance)}.",
        )


def _left_out(comparison: Comparison) -> Iterator[Finding]:
    cells = comparison.cells
    abstained = sum(c.simulated.abstained for c in cells)
    if abstained:
        attempts = abstained + sum(c.simulated.attempts for c in cells)
        worst = max(cells, key=lambda c: c.simulated.abstained)
        yield Finding(
            "caution",
            f"The judge abstained in {abstained} of {attempts} rollouts, most often for "
            f"{worst.policy} on {worst.task} ({worst.simulated.abstained}). These rollouts count "
            "neither as success nor as failure. That is fair only if abstaining is unrelated to "
            "success.",
        )
    if any(c.simulated.attempts > c.simulated.n for c in cells):
        yield Finding(
            "caution",
            "Several rollouts began at the same start. Intervals and tests count starts.",
        )
    yield from (Finding("caution", note) for note in comparison.notes)


PARTS = (
    _reference,
    _few_policies,
    _per_task,
    _only_simulated,
    _do_nothing,
    _same_start,
    _left_out,
)
"""What a verdict is made of, in the order of the page."""


def _title(agreement: Agreement) -> str:
    return agreement.task.capitalize() if agreement.task == MEAN_OF_TASKS else agreement.task


def _winners(agreement: Agreement) -> str:
    best = max(agreement.simulated)
    rates = zip(agreement.policies, agreement.simulated, strict=True)
    return ", tied with ".join(policy for policy, rate in rates if rate == best)


def _count(n: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n} {noun if n == 1 else plural}"
