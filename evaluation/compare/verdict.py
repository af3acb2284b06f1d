"""The verdict of a report: sentences on what a comparison supports, and what it does not.

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
    Separation,
)
from v2w_gym.evaluation.compare.statistics import chance_of_perfect_order
from v2w_gym.evaluation.compare.writing import decimal, percent, points, with_interval

FEW_POLICIES = 8
"""Below this many policies every statistic of a ranking is weak evidence."""
CONFIDENT = 0.95
NAMED = 4
"""Pairs that a sentence names before it counts the rest."""
DO_NOTHING = "zero"
"""Name of the policy that does nothing."""
Kind = Literal["supported", "not supported", "caution"]
PAIRS: tuple[tuple[Separation, Kind, str, str], ...] = (
    ("same order", "supported", "differ significantly on both sides, in the same order", ""),
    (
        "opposite order",
        "not supported",
        "differ significantly on both sides, in opposite orders",
        " The world model ranks these pairs wrongly.",
    ),
    (
        "only simulated",
        "not supported",
        "differ significantly in the world model but not on the {reference}",
        " The trials do not confirm their simulated order.",
    ),
    (
        "only real",
        "not supported",
        "differ significantly on the {reference} but not in the world model",
        "",
    ),
    (
        "neither",
        "not supported",
        "do not differ significantly on either side with this number of starts",
        " This is no evidence that they are equal.",
    ),
)
"""For each separation of a pair: kind of finding, what was found, and the conclusion."""


@dataclass(frozen=True)
class Finding:
    """One or two sentences of the verdict.

    Attributes:
        kind: Whether the numbers support a claim, do not support it, or need caution.
        text: The sentences.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
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
        return f"With {_count(k, 'policy')}{where}, no correlation can be computed."
    return (
        f"Over {k} policies{where}, success in the world model and on the {comparison.reference} "
        f"correlate with r = {with_interval(r)}."
    )


def verdict(comparison: Comparison) -> tuple[Finding, ...]:
    """Return all findings, the most general first."""
    return tuple(finding for part in PARTS for finding in part(comparison))


def _only_simulated(comparison: Comparison) -> Iterator[Finding]:
    lacking = [cell for cell in comparison.cells if cell.simulated.n and not cell.real.n]
    for cell in lacking:
        rate = cell.simulated
        low, high = map(percent, rate.interval)
        yield Finding(
            "supported",
            f"{cell.task}: according to the judge, {cell.policy} succeeds from "
            f"{percent(rate.value)} [{low}, {high}] of {_count(rate.n, 'start')} in this world "
            "model.",
        )
    if lacking:
        names = ", ".join(dict.fromkeys(cell.policy for cell in lacking))
        yield Finding(
            "not supported",
            f"The success of {names} on the {comparison.reference} is unknown. There are no trials "
            "to compare with, and a world model may overestimate or underestimate any policy. "
            "`v2w trials` records trials.",
        )


def _reference(comparison: Comparison) -> Iterator[Finding]:
    if comparison.compared and comparison.reference == STANDIN:
        yield Finding(
            "caution",
            "The stand-in robot is a simulated robot. No number on this page was measured on a "
            "real robot. Agreement with the stand-in does not show agreement with a real robot.",
        )


def _few_policies(comparison: Comparison) -> Iterator[Finding]:
    k = len(comparison.policies)
    if 0 < k < FEW_POLICIES:
        orders = f"{round(1 / chance_of_perfect_order(k)):,}"
        yield Finding(
            "caution",
            f"Only {_count(k, 'policy')}: below {FEW_POLICIES}, every correlation and rank "
            f"statistic is weak evidence. A random order of {k} policies is right with probability "
            f"1/{orders}, so no test of the order can give a smaller p value.",
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
        f"{name}, k = {k} policies: r = {with_interval(r)}. The interval covers the noise of a "
        "limited number of starts."
    )
    if k > 3:
        low, high = map(decimal, agreement.pearson_without_one)
        text += f" With one policy left out, r ranges from {low} to {high}."
        low, high = map(decimal, agreement.pearson_other_policies)
        text += f" For other policies, the interval of r is [{low}, {high}]."
    if r.low > 0 and agreement.pearson_other_policies[0] > 0:
        return Finding("supported", f"{text} Higher simulated rates go with higher real rates.")
    if r.low > 0:
        text += " The correlation holds for these policies; it is not shown for others."
        return Finding("not supported", text)
    return Finding("not supported", f"{text} No correlation is established.")


def _best(agreement: Agreement) -> Finding:
    regret, sure = agreement.summaries["regret"], agreement.top1_probability
    text = (
        f"{_title(agreement)}: the best policy in the world model ({_winners(agreement)}) is also "
        f"best in reality with probability {decimal(sure)}. Choosing it costs "
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
            f" A real difference of 10 points appears as {10 * slope.value:.0f} in simulation. "
            "Noise in the real rates explains part of this shrinkage."
        )
    return Finding("caution", f"{text} Read simulated rates as a ranking, not as success rates.")


def _separation(task: str, pairs: list[Pair], reference: str) -> Iterator[Finding]:
    for separation, kind, found, conclusion in PAIRS:
        named = [f"{p.first} and {p.second}" for p in pairs if p.separation == separation]
        if named:
            rest = f", and {len(named) - NAMED} more" if len(named) > NAMED else ""
            yield Finding(
                kind,
                f"{task}: of {_count(len(pairs), 'pair')} of policies, {len(named)} "
                f"{found.format(reference=reference)}: {', '.join(named[:NAMED])}{rest}."
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
            + ("The excess is hallucinated success." if excess else "There is no excess."),
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
            f"{task}: rollout and trial from the same start have the same outcome in "
            f"{percent(agreement)} of {n} cases. Independent outcomes with these success rates "
            f"would agree in {percent(by_chance)}.",
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
            "neither as success nor as failure. The rates are unbiased only if abstention is "
            "unrelated to success.",
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
"""The parts of a verdict, in the order of the page."""


def _title(agreement: Agreement) -> str:
    return agreement.task.capitalize() if agreement.task == MEAN_OF_TASKS else agreement.task


def _winners(agreement: Agreement) -> str:
    best = max(agreement.simulated)
    rates = zip(agreement.policies, agreement.simulated, strict=True)
    return ", tied with ".join(policy for policy, rate in rates if rate == best)


def _count(n: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n} {noun if n == 1 else plural}"
