"""Notes of a report: missing trials, and problems while policies acted."""

import shlex
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.configs.names import hint
from v2w_gym.evaluation.compare.comparison import Comparison


def name_notes(comparison: Comparison, trials: pd.DataFrame) -> Iterator[str]:
    """Yield notes on policies without trials whose names resemble a name with trials."""
    tried = sorted(set(trials["policy"]) - set(comparison.simulated_policies))
    for policy in comparison.simulated_policies:
        near = "" if policy in comparison.policies else hint(policy, tried)
        if near:
            yield f"{policy} has no trials{near}"


def trial_notes(cfg: RankConfig, comparison: Comparison, *, as_words: bool) -> Iterator[str]:
    """Yield a note on how to record the missing trials."""
    lacking = [cell for cell in comparison.cells if not cell.real.n]
    if not lacking:
        return
    tasks = [task for task in cfg.tasks if any(cell.task == task for cell in lacking)]
    lists = [f"policies=[{','.join(cfg.policies)}]", f"tasks=[{','.join(tasks)}]"]
    command = f"v2w trials output=trials.csv {shlex.join(lists)} starts={cfg.starts}"
    call = (
        f"v2w_gym.evaluation.trials.run_trials(TrialsConfig(output='trials.csv', tasks={tasks}, "
        f"starts={cfg.starts}), policies=[...])"
    )
    yield (
        f"To compare every policy, record trials on the {comparison.reference} with "
        f"`{command if as_words else call}` and rank again with trials=trials.csv. For trials on "
        "your own robot, write a table with columns policy, task, start, start_seed, success."
    )


def event_notes(rows: pd.DataFrame) -> Iterator[str]:
    """Yield notes on problems while policies acted, with their counts."""
    for policy, events in rows.groupby("policy")["events"]:
        times = sum((Counter(found) for found in events), Counter[str]())
        for event, count in sorted(times.items()):
            touched = sum(event in found for found in events)
            yield f"{policy}: {event}, {count} times in {touched} of {len(events)} rollouts."
