"""The bundled files fit together: weights, judge, starts, trials and the committed gate."""

import json
from pathlib import Path

import pandas as pd
import pytest

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.configs.loader import load_config
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.evaluation.gate.committed import GATE
from v2w_gym.evaluation.records.trials import load_trials
from v2w_gym.judges.loading import load_judge
from v2w_gym.policies.loading import make_policy
from v2w_gym.starts import bundled_starts
from v2w_gym.world_models.loading import load_world_model

ROOT = Path(__file__).parents[2]
TASKS = tasks_of(STANDIN_SAWYER.name)


@pytest.fixture
def study():
    return load_config(RankConfig, [str(ROOT / "configs" / "rank_standin.yaml")], [])


def test_the_gate_was_run_on_the_bundled_model_and_judge():
    gate = json.loads(GATE.read_text())
    assert gate["model"] == load_world_model().fingerprint
    assert gate["judge"] == load_judge(None, STANDIN_SAWYER).name
    assert {result["task"] for result in gate["open_loop"]} == set(TASKS)


def test_every_policy_of_the_study_was_tried_with_its_bundled_weights(study):
    trials = load_trials()
    for name in study.policies:
        mine = trials[trials["policy"] == name]
        assert set(mine["policy_fingerprint"]) == {
            make_policy(name, STANDIN_SAWYER).meta.fingerprint
        }
        assert mine.groupby("task").size().to_dict() == dict.fromkeys(TASKS, 60)


def test_the_study_is_about_tasks_for_which_the_model_passed_its_gate(study):
    checks = json.loads(GATE.read_text())["checks"]
    failed = {check["task"] for check in checks if not check["passed"]}
    assert not failed & set(study.tasks)


def test_trials_began_at_the_bundled_starts():
    trials = load_trials()
    for task in TASKS:
        tried = trials[trials["task"] == task].drop_duplicates("start").set_index("start")
        expected = pd.Series([start.seed for start in bundled_starts(task)], name="start_seed")
        pd.testing.assert_series_equal(
            tried["start_seed"].sort_index(), expected, check_index_type=False, check_names=False
        )


def test_bundled_weights_are_small():
    weights = [path for path in ROOT.glob("*/weights/*") if path.is_file()]
    assert {path.parent.parent.name for path in weights} == {
        "policies",
        "v2w_gym",
        "world_models",
    }
    assert sum(path.stat().st_size for path in weights) < 25e6
