"""Results are what they were: rows, the numbers of the verdict, and frames equal stored ones.

After a change, `v2w rank configs/rank_standin.yaml output=RUN` and then
`python -m tests.test_nothing_moved RUN` compare the whole bundled study. After a change that is
meant to move results, `python -m tests.test_nothing_moved RUN store` stores the new ones.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import v2w_gym  # noqa: F401  registers the environments
from v2w_gym.evaluation.compare.comparison import compare
from v2w_gym.evaluation.records.trials import load_trials
from v2w_gym.scripts import cli

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "study"
ROWS, VERDICT, FRAMES = GOLDEN / "rollouts.csv", GOLDEN / "verdict.json", GOLDEN / "frames.npz"
KEY = ["policy", "task", "start", "seed"]
COUNTED = [*KEY, "start_seed", "success", "steps"]
"""What must be equal. Scores and frames may differ by rounding, see docs/determinism.md."""
MADE_BY = ["policy", "policy_fingerprint", "model_fingerprint", "judge"]
SCORE_ROUNDING, GREY_LEVELS_ROUNDING = 0.01, 0.1

IMAGINED: dict[str, dict[str, Any]] = {
    "bundled sampler": {"start": 0, "steps": 14},
    "draft": {"start": 1, "steps": 14, "preset": "draft"},
    "guided": {
        "start": 2,
        "steps": 12,
        "window": 4,
        "sampler": {"guidance_scale": 2.0, "guidance_rescale": 0.7, "eta": 1.0, "steps": 3},
    },
    "open_drawer": {"start": 2, "steps": 1, "task": "open_drawer", "preset": "faithful"},
}
"""Rollouts of the bundled world model; the first two slide past its window of 10 frames."""
PUBLISHED = {
    f"published {preset}": {
        "start": "start.png",
        "checkpoint": "google_robot.ckpt",
        "steps": 4,
        "window": 3,
        "preset": preset,
        "sampler": {"steps": 2},
    }
    for preset in ("clean", "reference", "draft")
}
"""Rollouts of a small model in the published format with random weights."""


def imagine(steps: int, **arguments: Any) -> np.ndarray:
    """Return the frames (T, H, W, 3) after `steps` actions, each action held for four frames."""
    env = gym.make("Vid2World-RT1-v0", judge=None, terminate="ignore", **arguments)
    env.reset(seed=0)
    low, high = env.action_space.low, env.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (-(-steps // 4), *low.shape))
    held = actions.astype(np.float32).repeat(4, axis=0)[:steps]
    return np.stack([env.step(action)[0] for action in held])


def imagine_published(name: str, folder: Path) -> np.ndarray:
    """Return every eighth pixel of the frames of a rollout in `PUBLISHED`."""
    checkpoint, picture = (folder / PUBLISHED[name][file] for file in ("checkpoint", "start"))
    assert cli.main(["random-checkpoint", str(checkpoint)]) == 0
    y, x = np.mgrid[:256, :320]
    colours = np.stack([x * 255 // 319, y, (x // 32 + y // 32) % 2 * 200], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(picture)
    files = {"checkpoint": str(checkpoint), "start": str(picture)}
    return imagine(**{**PUBLISHED[name], **files})[:, 4::8, 4::8]


def read_run(folder: Path) -> pd.DataFrame:
    """Return the rows of a run folder, without what is imported from the code under test."""
    lines = (folder / "rollouts.jsonl").read_text().splitlines()
    return pd.DataFrame(map(json.loads, lines)).sort_values(KEY, ignore_index=True)


def stored_rows() -> pd.DataFrame:
    return pd.read_csv(ROWS).astype({"success": object}).replace({np.nan: None})


def verdict(rows: pd.DataFrame) -> dict[str, list[float]]:
    """Return every number of the comparison of one task's rollouts with the bundled trials."""
    trials = load_trials()
    real = trials[trials["policy"].isin(rows["policy"]) & trials["task"].isin(rows["task"])]
    comparison = compare(rows.replace({"success": {np.nan: None}}), real)
    [agreement] = comparison.agreements
    numbers: dict[str, Any] = {
        "policies": len(comparison.policies),
        "top1_probability": agreement.top1_probability,
        "pearson_without_one": agreement.pearson_without_one,
        "pearson_other_policies": agreement.pearson_other_policies,
    }
    for name, found in agreement.summaries.items():
        numbers[name] = found.value, found.low, found.high
    for cell in comparison.cells:
        numbers[f"{cell.policy}, simulated"] = cell.simulated.successes, cell.simulated.n
        numbers[f"{cell.policy}, real"] = cell.real.successes, cell.real.n
    for pair in comparison.pairs:
        gaps = pair.gap_simulated, pair.gap_real
        numbers[f"{pair.first} and {pair.second}"] = *gaps, pair.p_simulated, pair.p_real
    return {name: np.atleast_1d(found).tolist() for name, found in numbers.items()}


def made_by(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return the policies of a run, each with the fingerprints of all that made its rows."""
    return rows[MADE_BY].drop_duplicates().sort_values(MADE_BY).to_dict("records")


def check_rows(rows: pd.DataFrame) -> str:
    """Compare rows with the stored rows of the same rollouts; return how far scores differ."""
    stored = stored_rows()
    stored = rows[KEY].merge(stored, on=KEY, validate="one_to_one")
    found = rows[COUNTED].replace({np.nan: None})
    pd.testing.assert_frame_equal(found, stored[COUNTED], check_dtype=False)
    apart = np.abs(rows["score"] - stored["score"]).max()
    assert apart <= SCORE_ROUNDING, f"scores differ by up to {apart}"
    known = [row["policy"] for row in made_by(rows)]
    stored_makers = json.loads(VERDICT.read_text())["made_by"]
    assert made_by(rows) == [row for row in stored_makers if row["policy"] in known]
    return f"{len(rows)} rows equal, scores differ by up to {apart:.4f}"


def check_verdict(rows: pd.DataFrame) -> str:
    """Compare the verdict on the whole study with the stored one."""
    stored, found = json.loads(VERDICT.read_text())["verdict"], verdict(rows)
    assert found.keys() == stored.keys()
    for name, numbers in stored.items():
        assert found[name] == pytest.approx(numbers, abs=1e-9), name
    return f"{len(stored)} numbers of the verdict equal"


def check_frames(name: str, frames: np.ndarray) -> str:
    """Compare frames with the stored ones; return how far they differ."""
    with np.load(FRAMES) as stored:
        apart = np.abs(frames.astype(int) - stored[name])
    assert apart.mean() <= GREY_LEVELS_ROUNDING, f"{name}: {apart.mean()} grey levels on average"
    return f"{name}: {len(frames)} frames differ by up to {apart.max()} grey levels"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_rows_are_what_they_were(tmp_path: Path) -> None:
    study = str(ROOT / "configs" / "rank_standin.yaml")
    few = ["starts=2", "policies=[random,rt1-begin,rt1-15,planner]"]
    assert cli.main(["rank", study, *few, f"output={tmp_path}"]) == 0
    print(check_rows(read_run(tmp_path)))


def test_the_verdict_is_what_it_was() -> None:
    check_verdict(stored_rows())


@pytest.mark.parametrize("name", IMAGINED)
def test_frames_are_what_they_were(name: str) -> None:
    print(check_frames(name, imagine(**IMAGINED[name])))


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_frames_of_a_published_model_are_what_they_were(name: str, tmp_path: Path) -> None:
    print(check_frames(name, imagine_published(name, tmp_path)))


def store(rows: pd.DataFrame, folder: Path) -> None:
    """Store a run's rows, its verdict, and frames, as what results are from now on."""
    GOLDEN.mkdir(exist_ok=True)
    rows[[*COUNTED, "score"]].to_csv(ROWS, index=False)
    numbers = {"made_by": made_by(rows), "verdict": verdict(rows)}
    VERDICT.write_text(json.dumps(numbers, indent=1) + "\n")
    frames = {name: imagine(**IMAGINED[name]) for name in IMAGINED}
    frames |= {name: imagine_published(name, folder) for name in PUBLISHED}
    np.savez_compressed(FRAMES, **frames)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = Path(sys.argv[1])
    if sys.argv[2:] == ["store"]:
        store(read_run(run), run)
    print(check_rows(read_run(run)), check_verdict(read_run(run)), sep="\n")
    for name in IMAGINED:
        print(check_frames(name, imagine(**IMAGINED[name])))
    for name in PUBLISHED:
        print(check_frames(name, imagine_published(name, run)))
