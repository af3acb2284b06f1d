"""How often the detector of shifted actions is right, wrong or silent, on the stand-in robot.

`pytest -m slow -s tests/evaluation/data/test_alignment_errors.py` prints the table of the guide.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.data.drawn import shifted
from v2w_gym.configs.train import CollectConfig
from v2w_gym.evaluation.data.alignment import find_alignment
from v2w_gym.evaluation.data.motion import find_motion
from v2w_gym.standin.behaviours import BEHAVIOURS
from v2w_gym.standin.collect import collect
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.opening import open_source

SHIFTS = range(-2, 3)
REPEATS = 20
RIGHT, WRONG, NOTHING = "right", "wrong", "nothing"


def record(folder: Path, seed: int, **shares: float) -> list[Episode]:
    """Record 120 episodes; `shares` of behaviours, or those of `v2w collect`."""
    settings = {"output": str(folder), "episodes": 60, "first_seed": seed}
    if shares:
        settings["behaviours"] = dict.fromkeys(BEHAVIOURS, 0.0) | shares
    return list(open_source(str(collect(CollectConfig(**settings)))).read())


def count_outcomes(
    pairs: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], size: int, *, swapped: bool = False
) -> Counter[str]:
    """Draw `size` episodes many times at every shift, and count the verdicts.

    Args:
        pairs: Motion and actions of each episode, for each of `SHIFTS`.
        size: Number of episodes.
        swapped: Give each episode the actions of another one, which fit no shift.
    """
    outcomes: Counter[str] = Counter()
    rng = np.random.default_rng(size)
    for shift, episodes in zip(SHIFTS, pairs, strict=True):
        for repeat in range(REPEATS):
            drawn = [episodes[i] for i in rng.permutation(len(episodes))[:size]]
            motion, actions = [m for m, _ in drawn], [a for _, a in drawn]
            if swapped:
                actions = actions[1:] + actions[:1]
            found = find_alignment(motion, actions, seed=repeat).shift
            right = found == shift and not swapped
            outcomes[NOTHING if found is None else RIGHT if right else WRONG] += 1
    return outcomes


@pytest.mark.slow
def test_a_verdict_is_hardly_ever_wrong(tmp_path: Path) -> None:
    pytest.importorskip("metaworld", reason="the stand-in robot is not installed")
    recordings = {
        "mixed": record(tmp_path / "mixed", 0),
        "noisy experts": record(tmp_path / "noisy", 8000, noisy_expert=1.0),
        "experts": record(tmp_path / "experts", 7000, expert=1.0),
    }
    draws = len(SHIFTS) * REPEATS
    print(f"\nof {draws} draws: right, wrong, nothing; verdicts on swapped actions")
    for name, episodes in recordings.items():
        pairs = [
            [(find_motion(e.frames[:]), e.actions) for e in (shifted(e, s) for e in episodes)]
            for s in SHIFTS
        ]
        for size in (15, 25, 50, 100):
            found = count_outcomes(pairs, size)
            noise = count_outcomes(pairs, size, swapped=True)[WRONG]
            print(name, size, *(found[each] for each in (RIGHT, WRONG, NOTHING)), noise)
            assert max(found[WRONG], noise) <= 0.03 * draws
        if name != "experts":
            assert found[RIGHT] >= 0.95 * draws
