"""A summary of recorded data as text for people, and as JSON for programs."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from v2w_gym.configs.text import printable
from v2w_gym.evaluation.data.summary import Summary
from v2w_gym.evaluation.data.values import ValueStatistics

MOST_NAMES = 5
"""Instructions, sizes or episodes that a line lists."""
WIDTH = 60
"""Most characters of an instruction in a list."""
INDENT = " " * 15


def to_text(summary: Summary) -> str:
    """Return the summary as lines for a terminal."""
    lines = [_title(summary), *_facts(summary), "", *_values(summary), "", *_checks(summary)]
    return "\n".join(line.rstrip() for line in lines)


def to_json(summary: Summary, pictures: Sequence[Path] = ()) -> str:
    """Return the summary, and the paths of its pictures, as one JSON object."""
    found = asdict(summary)
    found["pictures"] = [str(path) for path in pictures]
    found["alignment"]["verdict"] = str(summary.alignment)
    found["settings"] = summary.settings
    return json.dumps(found, indent=2)


def _title(summary: Summary) -> str:
    return f"{printable(summary.name)}: {_episodes(summary.total)}; {_basis(summary)}"


def _basis(summary: Summary) -> str:
    if summary.chosen == summary.total:
        return "all were read" if not summary.failed else f"{summary.read:,} could be read"
    chosen = f"{summary.chosen:,} of them, evenly spread, were read"
    return chosen if not summary.failed else f"{chosen}, {summary.read:,} could be"


def _facts(summary: Summary) -> Iterator[str]:
    low, middle, high = summary.lengths
    yield _row("length", f"{low} to {high} frames, median {middle:g}")
    yield _row("frame size", f"{_list(summary.sizes)} pixels")
    rates = {rate or "not recorded": count for rate, count in summary.rates.items()}
    yield _row("rate", f"{_list(rates)}{'' if '' in summary.rates else ' frames per second'}")
    if any(summary.cameras):
        yield _row("camera", _list(summary.cameras))
    yield _row("instruction", _instructions(summary))
    solved, judged = summary.success
    shown = f"{solved} of {_episodes(judged)} ({solved / judged:.0%})" if judged else "not recorded"
    yield _row("success", f"{shown}{', at the last frame' if judged else ''}")
    yield _row("frames", _stuck(summary))
    for number, reason in list(summary.failed.items())[:MOST_NAMES]:
        yield _row("unreadable", f"episode {number}: {printable(reason, 200)}")
    if len(summary.failed) > MOST_NAMES:
        yield _row("", f"... and {len(summary.failed) - MOST_NAMES} more")


def _instructions(summary: Summary) -> str:
    found = summary.instructions
    if not found:
        return "not recorded"
    lines = [f'{count:>5} x "{printable(text, WIDTH)}"' for text, count in found.items()]
    head = f"{len(found)} in {_episodes(sum(found.values()))}"
    head += "; the most frequent:" if len(lines) > MOST_NAMES else ":"
    return "\n".join([head, *(INDENT + line for line in lines[:MOST_NAMES])])


def _stuck(summary: Summary) -> str:
    stuck = summary.stuck
    parts = []
    if stuck.equal:
        run, name = stuck.longest
        parts.append(
            f"{stuck.equal:,} of {stuck.frames:,} equal the one before, up to {run} in a row "
            f"({printable(name, WIDTH)})"
        )
    if stuck.blank:
        parts.append(f"{stuck.blank:,} of {stuck.frames:,} have one colour")
    return "; ".join(parts) or f"{stuck.frames:,}, none equals the one before, none is blank"


def _values(summary: Summary) -> Iterator[str]:
    """Yield a table of the values that move, and the names of the others."""
    if not summary.values:
        yield _row("actions", "none")
        return
    known = f"bounds of robot {summary.robot}" if summary.robot else "no robot: no bounds"
    yield _row("actions", f"{len(summary.values)} values, {known}, {_episodes(summary.read)}")
    moving = [value for value in summary.values if value.at_rest < 1]
    if moving:
        yield from _table(moving)
    resting = [value.name for value in summary.values if value.at_rest == 1]
    if resting:
        names = textwrap.wrap(", ".join(_fold(resting)), 100, break_long_words=False)
        yield _row("at rest", f"\n{INDENT}".join(names))


def _table(values: Sequence[ValueStatistics]) -> Iterator[str]:
    width = max(len(value.name) for value in values)
    heads = "".join(f"{head:>11}" for head in ("min", "1 %", "median", "99 %", "max"))
    yield f"    {'value':<{width}}{heads}{'bounds':>18}{'at rest':>9}{'beyond':>8}"
    for value in values:
        numbers = "".join(f"{quantile:>11.3g}" for quantile in value.quantiles)
        bounds = "" if value.low is None else f"{value.low:.4g} to {value.high:.4g}"
        beyond = "" if value.beyond is None else _percent(value.beyond)
        rest = _percent(value.at_rest)
        yield f"    {value.name:<{width}}{numbers}{bounds:>18}{rest:>9}{beyond:>8}"


def _fold(names: Sequence[str]) -> list[str]:
    """Turn a[0], a[1] into a[0, 1]."""
    labels: dict[str, list[str]] = {}
    for name in names:
        field, _, label = name.removesuffix("]").partition("[")
        labels.setdefault(field, []).append(label)
    return [f"{field}[{', '.join(found)}]" for field, found in labels.items()]


def _checks(summary: Summary) -> Iterator[str]:
    yield _row("alignment", str(summary.alignment))
    for finding in summary.findings:
        yield _row("check", str(finding))
    stuck = summary.stuck
    for names, what in ((stuck.frozen, "the camera froze"), (stuck.blank_episodes, "blank frames")):
        if names:
            yield _row("check", f"{what} in {_names(names)}")
    for note in summary.notes:
        yield _row("note", note)
    if summary.settings:
        yield _row("settings", " ".join(f"{k}={_plain(v)}" for k, v in summary.settings.items()))


def _row(head: str, text: str) -> str:
    return f"  {head:<13}{text}"


def _list(counts: Mapping[str, int]) -> str:
    """Return the most frequent names, with their counts if there are several."""
    if len(counts) == 1:
        return printable(next(iter(counts)))
    listed = [f"{printable(name)} ({count})" for name, count in list(counts.items())[:MOST_NAMES]]
    more = [f"{len(counts) - MOST_NAMES} more"] if len(counts) > MOST_NAMES else []
    return ", ".join([*listed, *more])


def _names(names: tuple[str, ...]) -> str:
    listed = ", ".join(printable(name, WIDTH) for name in names[:MOST_NAMES])
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{_episodes(len(names))}: {listed}{more}"


def _episodes(count: int) -> str:
    return f"{count:,} episode{'s' * (count != 1)}"


def _percent(share: float) -> str:
    return "0" if share == 0 else f"{share:.1%}"


def _plain(value: object) -> str:
    """Return a setting as a command line takes it."""
    if isinstance(value, dict):
        return "'{" + ", ".join(f"{k}: {v:.6g}" for k, v in value.items()) + "}'"
    return str(value)
