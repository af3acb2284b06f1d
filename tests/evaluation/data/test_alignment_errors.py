"""How often the detector of shifted actions is right, wrong or silent, on the stand-in robot.

`python -m tests.evaluation.data.test_alignment_errors` prints the table of the guide.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
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
SIZES, REPEATS = (15, 25, 50, 100), 20
"""Numbers of episodes, and draws at each shift, of the guide's table."""
RIGHT, WRONG, NOTHING = "right", "wrong", "nothing"


def record(folder: Path, seed: int, **shares: float) -> list[Episode]:
    """Record 120 episodes; `shares` of behaviours, or those of `v2w collect`."""
    settings = {"output": str(folder), "episodes": 60, "first_seed": seed}
    if shares:
        settings["behaviours"] = dict.fromkeys(BEHAVIOURS, 0.0) | shares
    return list(open_source(str(collect(CollectConfig(**settings)))).read())


def count_outcomes(
    pairs: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]],
    size: int,
    repeats: int,
    *,
    swapped: bool = False,
) -> Counter[str]:
    """Draw `size` episodes many times at every shift, and count the verdicts.

    Args:
        pairs: Motion and actions of each episode, for each of `SHIFTS`.
        size: Number of episodes.
        repeats: Draws at each shift.
        swapped: Give each episode the actions of another one, which fit no shift.
    """
    outcomes: Counter[str] = Counter()
    rng = np.random.default_rng(size)
    for shift, episodes in zip(SHIFTS, pairs, strict=True):
        for repeat in range(repeats):
            drawn = [episodes[i] for i in rng.permutation(len(episodes))[:size]]
            motion, actions = [m for m, _ in drawn], [a for _, a in drawn]
            if swapped:
                actions = actions[1:] + actions[:1]
            found = find_alignment(motion, actions, seed=repeat).shift
            right = found == shift and not swapped
            outcomes[NOTHING if found is None else RIGHT if right else WRONG] += 1
    return outcomes


RECORDINGS: dict[str, tuple[int, dict[str, float]]] = {
    "all behaviours": (0, {}),
    "noisy experts": (8000, {"noisy_expert": 1.0}),
    "scripted experts": (7000, {"expert": 1.0}),
}
"""Name in the guide's table -> first seed, and shares of behaviours."""


def measure(
    folder: Path, name: str, sizes: Sequence[int], repeats: int
) -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Yield the verdicts for each number of episodes, and those on other episodes' actions."""
    seed, shares = RECORDINGS[name]
    episodes = record(folder / name, seed, **shares)
    pairs = [
        [(find_motion(e.frames[:]), e.actions) for e in (shifted(e, s) for e in episodes)]
        for s in SHIFTS
    ]
    for size in sizes:
        found = count_outcomes(pairs, size, repeats)
        yield found, count_outcomes(pairs, size, repeats, swapped=True)


@pytest.mark.slow
def test_a_verdict_is_hardly_ever_wrong(tmp_path: Path) -> None:
    pytest.importorskip("metaworld", reason="the stand-in robot is not installed")
    ((found, swapped),) = measure(tmp_path, "all behaviours", sizes=[100], repeats=1)
    assert found == {RIGHT: len(SHIFTS)} and swapped == {NOTHING: len(SHIFTS)}


def main() -> None:
    """Print the guide's table."""
    with tempfile.TemporaryDirectory() as folder:
        for name in RECORDINGS:
            outcomes = measure(Path(folder), name, SIZES, REPEATS)
            for size, (found, swapped) in zip(SIZES, outcomes, strict=True):
                print(name, size, dict(found), "of other episodes:", dict(swapped), flush=True)


if __name__ == "__main__":
    main()
