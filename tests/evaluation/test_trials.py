import dataclasses
import json
import os
from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

from v2w_gym.configs.evaluate import TrialsConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation import trials
from v2w_gym.evaluation.closed_loop import check_distinct
from v2w_gym.evaluation.records.trials import load_trials
from v2w_gym.evaluation.trials import run_trials
from v2w_gym.interface import Progress, action_space, frame_space
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.policies.scripted import zero_policy
from v2w_gym.starts import bundled_starts
from v2w_gym.world_models.run_folder import hold

HEADER = "policy,task,start,start_seed,success\n"


class Scripted(gym.Env):
    """A robot whose task is solved in the frames that `solved` lists."""

    metadata = {"render_modes": []}
    action_space = action_space(STANDIN_SAWYER)
    observation_space = frame_space(STANDIN_SAWYER)

    def __init__(self, solved):
        self.solved = solved
        self.seeds = []

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.step_count = 0
        self.progress = Progress(judged=True).began(0 in self.solved)
        return self._frame(), self._info()

    def step(self, action):
        self.step_count += 1
        self.progress = self.progress.observed(self.step_count in self.solved)
        return self._frame(), 0.0, self.progress.terminated, False, self._info()

    def _frame(self):
        return np.full((64, 64, 3), self.step_count, np.uint8)

    def _info(self):
        return {
            "instruction": "close the drawer",
            "success": self.progress.success,
            "solved_at_start": self.progress.solved_at_start,
        }


@pytest.fixture
def robots(monkeypatch):
    made = []

    def make(task):
        made.append(Scripted({3, 4} if task == "close_drawer" else {3}))
        return made[-1]

    monkeypatch.setattr(trials, "StandinEnv", make)
    return made


def config(tmp_path, **changes):
    cfg = TrialsConfig(output=str(tmp_path / "new" / "t.csv"), policies=["zero"], starts=3)
    return dataclasses.replace(cfg, **changes)


def test_one_trial_per_start_from_the_start_s_own_seed(tmp_path, robots):
    table = load_trials(run_trials(config(tmp_path)))
    seeds = [start.seed for start in bundled_starts("close_drawer")[:3]]
    assert robots[0].seeds == seeds
    closed, opened = (table[table["task"] == task] for task in ("close_drawer", "open_drawer"))
    assert closed["success"].tolist() == [True] * 3 and closed["steps"].tolist() == [4] * 3
    assert opened["success"].tolist() == [False] * 3 and opened["steps"].tolist() == [20] * 3
    assert closed["start_seed"].tolist() == seeds and closed["start"].tolist() == [0, 1, 2]


def test_events_are_logged(tmp_path, robots, caplog):
    file = tmp_path / "fast.yaml"
    file.write_text("source: random\nname: fast\ndriver: {scale: 3}\n")
    run_trials(config(tmp_path, policies=["zero", str(file)], starts=1))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert all("fast" in line and "clipped to the robot's bounds" in line for line in lines)


def test_first_line_is_the_command(tmp_path, robots):
    first = run_trials(config(tmp_path)).read_text().splitlines()[0]
    assert first.startswith("# command: v2w trials output=") and first.endswith(" starts=3")


@pytest.mark.parametrize("lost", [1, 10, 40])
def test_resumes_after_a_torn_line(tmp_path, robots, lost):
    cfg = config(tmp_path)
    whole = load_trials(run_trials(cfg))
    os.truncate(cfg.output, os.path.getsize(cfg.output) - lost)  # noqa: PTH202
    pd.testing.assert_frame_equal(load_trials(run_trials(cfg)), whole)
    assert len(robots[-1].seeds) in (1, 2)  # only what was lost is tried again


def test_more_starts_extend_the_table(tmp_path, robots):
    run_trials(config(tmp_path))
    table = load_trials(run_trials(config(tmp_path, starts=4, policies=["zero", "random"])))
    assert len(table) == 2 * 2 * 4
    assert not table.duplicated(["policy", "task", "start"]).any()


ODD = ["null", "nan", "None", "NA", "#1", "a#b", "a,b", 'say "x"', "010", "1e3", "True"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_read_as_it_was_written(tmp_path, robots, name):
    file = tmp_path / "odd.yaml"
    file.write_text(f"source: zero\nname: {json.dumps(name)}\n")
    cfg = config(tmp_path, policies=[str(file)])
    whole = load_trials(run_trials(cfg))
    assert set(whole["policy"]) == {name}
    pd.testing.assert_frame_equal(load_trials(run_trials(cfg)), whole)
    assert len(whole) == 6
    rates = whole.groupby(["task", "policy"])["success"].mean()
    assert rates["close_drawer", name] == 1


@pytest.mark.parametrize("name", ["", " a", "a\nb", "a\u202eb", "x" * 200])
def test_a_name_that_no_table_can_show_is_refused(name):
    policy = zero_policy(STANDIN_SAWYER)
    policy.meta = dataclasses.replace(policy.meta, name=name)
    with pytest.raises(ValueError, match="expected a name of 1 to 100 visible .*; give the policy"):
        check_distinct([RobotPolicy(policy, STANDIN_SAWYER)])


def test_the_same_policy_twice_is_refused(tmp_path, robots):
    with pytest.raises(ValueError, match="expected policies with different names"):
        run_trials(config(tmp_path, policies=["zero", "zero"]))
    with pytest.raises(ValueError, match="cannot set tasks: expected every entry once"):
        config(tmp_path, tasks=["close_drawer", "close_drawer"])


def test_trials_of_other_weights_are_refused(tmp_path, robots):
    cfg = config(tmp_path)
    path = run_trials(cfg)
    path.write_text(
        path.read_text().replace("3,20,\n", "3,20,abc\n").replace(",20,\n", ",20,abc\n")
    )
    with pytest.raises(ValueError, match="holds trials of zero with other weights"):
        run_trials(cfg)


def test_trials_with_other_driver_settings_are_refused(tmp_path, robots):
    file = tmp_path / "mine.yaml"
    file.write_text("source: random\nname: mine\n")
    run_trials(config(tmp_path, policies=[str(file)]))
    run_trials(config(tmp_path, policies=[str(file)]))
    file.write_text("source: random\nname: mine\ndriver: {scale: 0.5}\n")
    with pytest.raises(ValueError, match="holds trials of mine with other .* driver settings"):
        run_trials(config(tmp_path, policies=[str(file)]))


def test_a_table_that_a_crash_left_empty_is_begun_again(tmp_path, robots):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "t.csv").touch()
    assert len(load_trials(run_trials(config(tmp_path)))) == 2 * 3


def test_two_processes_do_not_fill_one_table(tmp_path, robots):
    lock = tmp_path / "new" / "t.csv.lock"
    with hold(lock), pytest.raises(BlockingIOError, match="expected to run alone in .*new, found"):
        run_trials(config(tmp_path))
    run_trials(config(tmp_path))
    assert [path.name for path in lock.parent.iterdir()] == ["t.csv"]


def test_missing_extra_says_what_to_install_and_writes_nothing(tmp_path, monkeypatch):
    def missing(task):
        raise ModuleNotFoundError("run: pip install '.[standin]'")

    monkeypatch.setattr(trials, "StandinEnv", missing)
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        run_trials(config(tmp_path))
    assert not (tmp_path / "new").exists()


def test_reads_a_table_from_elsewhere(tmp_path):
    path = tmp_path / "real.csv"
    path.write_text("# my lab\n" + HEADER + "1,close_drawer,0,5,true\n1,close_drawer,1,6,False\n")
    table = load_trials(path)
    assert table["success"].tolist() == [True, False]
    assert table["policy"].tolist() == ["1", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("policy,task,start,success\n", r"add \['start_seed'\]"),
        ("", "expected a table of trials at"),
        (HEADER + "a,b\n1,2,3,4,5,6,7\n", "expected a table of trials at"),
        (HEADER + "a,b,,5,True\n", "expected a start in every row"),
        (HEADER + "a,b,0,5,maybe\n", "expected success .* as true, false or empty, found 'maybe'"),
        (HEADER + "a,b,0,5,False\na,b,1,6,yes\n", "as true, false or empty, found 'yes'"),
        ("version https://git-lfs.github.com/spec/v1\n", "found a git-LFS pointer"),
        (HEADER + ",b,0,5,True\n", "column policy of .*: expected a name"),
        (HEADER + '"a\nb",b,0,5,True\n', "column policy of .*: expected a name"),
    ],
)
def test_another_file_is_refused(tmp_path, text, message):
    (tmp_path / "real.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_trials(tmp_path / "real.csv")


def test_no_table_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="v2w trials"):
        load_trials(tmp_path / "none.csv")


@pytest.mark.skipif(find_spec("metaworld") is None, reason="needs the standin extra")
def test_the_stand_in_robot_fails_if_nothing_moves(tmp_path):
    table = load_trials(run_trials(config(tmp_path, starts=1)))
    assert table["success"].tolist() == [False, False]
