import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.evaluation.gate import committed
from v2w_gym.evaluation.rank import rank
from v2w_gym.evaluation.records.rows import ROWS, read_rows
from v2w_gym.evaluation.records.video import read_video
from v2w_gym.evaluation.rollout import run_rollouts
from v2w_gym.judges.base import Verdicts
from v2w_gym.judges.drawer import judge_openings
from v2w_gym.policies.base import ActionBatch, PolicyMeta
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.policies.scripted import random_policy
from v2w_gym.scripts import rank as command
from v2w_gym.starts import bundled_starts
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.loading import load_world_model
from v2w_gym.world_models.run_folder import hold_folder
from v2w_gym.world_models.vid2world.model import Vid2World

MOTION = STANDIN_SAWYER.slices["world_vector"]


class Drifting(CopyLast):
    """A world whose brightness follows the hand's height and its own noise."""

    def step(self, state, actions, noise):
        rise = torch.from_numpy(actions[:, MOTION].sum(1))[:, None, None, None]
        drift = rise + 0.1 * noise.normal(0, (3, 1, 1))
        frame = (state.latents[:, -1] + drift).clamp(-1, 1)
        return state.followed(frame, torch.from_numpy(actions))


class Brightness:
    """A judge that takes a brighter frame for a drawer that is more open."""

    name = "brightness"
    card = {"kind": "brightness"}

    def opening(self, frames):
        return 0.2 * frames.mean(axis=(-3, -2, -1)) / 255

    def success(self, frames, task):
        opening = self.opening(frames[:, -1])
        return opening <= 0.03 if task == "close_drawer" else opening >= 0.12

    def verdicts(self, frames, task):
        opening = self.opening(frames)
        return judge_openings(opening, np.full_like(opening, 0.01), task)


class Looking:
    """A policy whose actions depend on its seed, its step and its frame."""

    def __init__(self, name="looking", interrupt_after=None, max_batch=None):
        self.meta = PolicyMeta(name, STANDIN_SAWYER.action_layout.name, max_batch=max_batch)
        self.acts_left = interrupt_after
        self.most_slots = 0

    def reset(self, instructions, *, seeds):
        self.most_slots = max(self.most_slots, len(instructions))
        self.generators = [np.random.default_rng(seed) for seed in seeds]

    def act(self, frames, active):
        if self.acts_left is not None:
            self.acts_left -= 1
            if self.acts_left < 0:
                raise KeyboardInterrupt
        actions = np.tile(STANDIN_SAWYER.make_action(), (len(frames), 1, 1))
        for slot in np.flatnonzero(active):
            pull = 0.03 * (frames[slot].mean() / 255 - 0.4)
            actions[slot, 0, MOTION] = np.clip(
                self.generators[slot].normal(pull, 0.02, 3), -0.05, 0.05
            )
        return ActionBatch(actions)

    def close(self):
        pass


class Overshooting(Looking):
    """A policy with an event in every step, whose first action in each slot is too large."""

    def act(self, frames, active):
        batch = super().act(frames, active)
        batch.actions[:, 0, MOTION] *= 100
        return ActionBatch(
            batch.actions, tuple((int(i), "stumbled") for i in np.flatnonzero(active))
        )


MODEL = Drifting(STANDIN_SAWYER)


def config(folder, **changes):
    return dataclasses.replace(
        RankConfig(output=str(folder), policies=[], starts=3, seeds=2, batch_size=4), **changes
    )


def run(folder, policies=None, model=MODEL, **changes):
    policies = policies or [Looking("a"), Looking("b")]
    return run_rollouts(config(folder, **changes), model, put_on_robot(policies), Brightness())


def put_on_robot(policies):
    return [RobotPolicy(policy, STANDIN_SAWYER) for policy in policies]


def fingerprints(folder):
    videos = sorted(folder.rglob("*.mp4"))
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in videos}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, run(folder)


def test_one_row_and_video_per_rollout(reference):
    folder, rows = reference
    assert len(rows) == len(fingerprints(folder)) == 2 * 2 * 3 * 2
    for row in rows.itertuples():
        frames = read_video(folder / row.video)
        start = bundled_starts(row.task)[row.start]
        assert len(frames) == row.steps + 1
        assert row.start_seed == start.seed
        assert np.abs(frames[0].astype(int) - start.frame).mean() < 1


def test_rollouts_differ_by_start_seed_and_policy_seed(reference):
    assert len(set(fingerprints(reference[0]).values())) == 24 - 12  # "a" and "b" act alike


def test_attempts_end_at_success_or_at_the_horizon(reference):
    rows = reference[1]
    success = rows["success"].astype(bool)
    assert 0 < success.sum() < len(rows)
    assert (rows.loc[~success, "steps"] == 20).all()
    assert (rows.loc[success, "steps"] < 20).any()
    assert ((rows["score"] >= 0.5) == success).all()


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batch_size_changes_nothing(reference, tmp_path, batch_size):
    pd.testing.assert_frame_equal(run(tmp_path, batch_size=batch_size), reference[1])
    assert fingerprints(tmp_path) == fingerprints(reference[0])


def test_a_policy_that_acts_in_few_slots_is_given_few(reference, tmp_path):
    policies = [Looking("a", max_batch=1), Looking("b", max_batch=3)]
    pd.testing.assert_frame_equal(run(tmp_path, policies), reference[1])
    assert [policy.most_slots for policy in policies] == [1, 3]


def test_what_was_coped_with_is_counted_in_every_row(tmp_path):
    rows = run(tmp_path, [Overshooting("a")])
    for row in rows.itertuples():
        assert row.events["stumbled"] == row.steps
        assert 0 < row.events["clipped to the robot's bounds"] <= row.steps


class Content(Brightness):
    """A judge that takes every frame for solved."""

    def success(self, frames, task):
        return np.ones(len(frames), bool)

    def verdicts(self, frames, task):
        yes, no = np.ones(len(frames), bool), np.zeros(len(frames), bool)
        return Verdicts(yes, no, yes.astype(float))


@pytest.mark.filterwarnings("ignore:the task is solved already")
def test_what_was_solved_at_the_start_is_nobody_s_success(tmp_path):
    few = {"starts": 1, "seeds": 1, "tasks": ["close_drawer"]}
    rows = run_rollouts(config(tmp_path, **few), MODEL, put_on_robot([Looking("a")]), Content())
    assert rows["success"].tolist() == [None]
    assert rows["events"][0]["solved before the first action"] == 1


def test_order_changes_nothing(reference, tmp_path):
    policies = [Looking("b"), Looking("a")]
    rows = run(tmp_path, policies, tasks=["open_drawer", "close_drawer"])
    pd.testing.assert_frame_equal(rows, reference[1])
    assert fingerprints(tmp_path) == fingerprints(reference[0])


def test_interrupted_twice_and_resumed_is_the_same_run(reference, tmp_path):
    for acts in (25, 30):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, [Looking("a", interrupt_after=acts), Looking("b")])
    finished = read_rows(tmp_path / ROWS)
    assert 4 < len(finished) < 12
    before = fingerprints(tmp_path)
    file = tmp_path / ROWS
    file.write_bytes(file.read_bytes()[:-10])
    pd.testing.assert_frame_equal(run(tmp_path), reference[1])
    assert before.items() <= fingerprints(tmp_path).items() == fingerprints(reference[0]).items()


def test_two_processes_do_not_share_a_folder(reference, tmp_path):
    alone = pytest.raises(
        BlockingIOError, match=f"found process {os.getpid()} on .* choose another"
    )
    with hold_folder(tmp_path / "run"), alone:
        run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_crash_left_is_absent(reference, tmp_path):
    (tmp_path / "run.json").touch()
    left = tmp_path / "videos" / "a" / f"close_drawer.mp4.{10**30}.partial"
    left.parent.mkdir(parents=True)
    left.touch()
    pd.testing.assert_frame_equal(run(tmp_path), reference[1])
    assert json.loads((tmp_path / "run.json").read_text())["starts"] == 3
    assert not left.exists()


def test_a_policy_that_acts_otherwise_gets_a_folder_of_its_own(tmp_path):
    policy = random_policy(STANDIN_SAWYER)
    done = run(tmp_path, [policy])
    several = random_policy(STANDIN_SAWYER)
    several.meta = dataclasses.replace(policy.meta, max_batch=2)  # which changes no action
    pd.testing.assert_frame_equal(run(tmp_path, [several]), done)
    absolute = random_policy(STANDIN_SAWYER)
    absolute.meta = dataclasses.replace(policy.meta, gripper="absolute")
    slower = RobotPolicy(policy, STANDIN_SAWYER, ProcessingConfig(scale=0.5))
    for acting in (put_on_robot([absolute]), [slower]):
        with pytest.raises(ValueError, match="holds another run: expected policies"):
            run_rollouts(config(tmp_path), MODEL, acting, Brightness())


def test_done_rollouts_are_not_run_again(reference):
    never = [Looking("a", interrupt_after=0), Looking("b", interrupt_after=0)]
    pd.testing.assert_frame_equal(run(reference[0], never), reference[1])


def test_another_world_model_in_the_same_folder_is_refused(reference):
    with pytest.raises(ValueError, match="holds another run: expected model"):
        run_rollouts(
            config(reference[0]),
            CopyLast(STANDIN_SAWYER),
            put_on_robot([Looking("a")]),
            Brightness(),
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": 1000}, "expected starts from 1 to"),
        ({"seeds": 0}, "expected seeds >= 1, found 0"),
        ({"tasks": ["close_drawr"]}, "did you mean 'close_drawer'"),
        ({"tasks": []}, "cannot set tasks: expected at least one entry"),
        (
            {"tasks": ["close_drawer", "close_drawer"]},
            "cannot set tasks: expected every entry once",
        ),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("names", ["aa", "aA"])
def test_two_policies_of_one_name_are_refused(tmp_path, names):
    with pytest.raises(ValueError, match="different names"):
        run(tmp_path, [Looking(name) for name in names])


def test_policies_whose_names_look_alike_as_files_keep_their_own_videos(tmp_path):
    few = {"starts": 1, "seeds": 1, "tasks": ["close_drawer"]}
    rows = run(tmp_path, [Looking(name) for name in ("a b", "a_b", "抓取", "推动")], **few)
    assert len(fingerprints(tmp_path)) == rows["video"].nunique() == 4
    assert sorted(rows["policy"]) == sorted(["a b", "a_b", "抓取", "推动"])


def test_a_model_that_does_not_say_what_it_is_is_refused_before_anything_is_written(tmp_path):
    class Nameless:
        robot, window, context_frames = STANDIN_SAWYER, 4, 1

    with pytest.raises(ValueError, match="found Nameless without card and fingerprint"):
        run(tmp_path / "run", [Looking("a")], model=Nameless())
    assert not (tmp_path / "run").exists()


def trials(tmp_path, policy="a", weights=""):
    lines = [
        f"{policy},{task},{i},{start.seed},{i % 2 == 0},20,{weights}"
        for task in ("close_drawer", "open_drawer")
        for i, start in enumerate(bundled_starts(task)[:3])
    ]
    table = tmp_path / "trials.csv"
    header = "policy,task,start,start_seed,success,steps,policy_fingerprint"
    table.write_text("\n".join(["# command: by hand", header, *lines]) + "\n")
    return str(table)


def test_rank_compares_and_reports(tmp_path):
    cfg = config(tmp_path / "run", trials=trials(tmp_path))
    comparison = rank(cfg, model=MODEL, policies=[Looking("a")], judge=Brightness())
    assert comparison.policies == ("a",)
    assert comparison.cell("close_drawer", "a").real.value == pytest.approx(2 / 3)
    assert (tmp_path / "run" / "report.html").is_file()
    assert not any("trials" in note for note in comparison.notes)


@pytest.mark.parametrize("table", ["missing", "bundled", "header alone"])
def test_a_policy_that_was_never_on_a_robot_is_ranked(tmp_path, monkeypatch, table):
    header = "policy,task,start,start_seed,success\n"
    (tmp_path / "trials.csv").write_text(header)
    if table == "missing":
        monkeypatch.setattr("v2w_gym.evaluation.records.trials.BUNDLED", tmp_path / "nowhere.csv")
    own = str(tmp_path / "trials.csv") if table == "header alone" else None
    cfg = config(tmp_path / "run", tasks=["close_drawer"], trials=own)
    comparison = rank(cfg, model=MODEL, policies=[Looking("mine")], judge=Brightness())
    [cell] = comparison.cells
    rows = read_rows(tmp_path / "run" / ROWS)
    assert cell.simulated.attempts == len(rows) == 6
    assert cell.simulated.n == 3
    assert cell.simulated.value == np.mean([row.success for row in rows])
    assert (cell.real.n, comparison.compared) == (0, ())
    assert "mine on close_drawer is not compared: there are no trials of it." in comparison.notes
    assert any("run_trials(TrialsConfig(" in note for note in comparison.notes)
    page = (tmp_path / "run" / "report.html").read_text()
    low, high = (f"{100 * bound:.0f} %" for bound in cell.simulated.interval)
    assert f"{low} to {high}" in page and "mine" in page
    assert not (tmp_path / "run" / "scatter.png").exists()


def test_a_name_that_nearly_has_trials_is_suggested(tmp_path):
    cfg = config(tmp_path / "run", trials=trials(tmp_path, policy="looking-at"))
    comparison = rank(cfg, model=MODEL, policies=[Looking("looking_at")], judge=Brightness())
    assert "looking_at has no trials; did you mean 'looking-at'?" in comparison.notes


def test_a_policy_without_trials_stands_beside_one_that_has_them(tmp_path):
    cfg = config(tmp_path / "run", trials=trials(tmp_path))
    alone = rank(cfg, model=MODEL, policies=[Looking("a")], judge=Brightness())
    cfg = dataclasses.replace(cfg, output=str(tmp_path / "both"))
    both = rank(cfg, model=MODEL, policies=[Looking("mine"), Looking("a")], judge=Brightness())
    assert repr(both.agreements) == repr(alone.agreements)
    assert {cell.policy for cell in both.cells} == {"a", "mine"}
    assert both.compared == alone.cells
    page = (tmp_path / "both" / "report.html").read_text()
    assert "no trials" in page and "not tried" in page


def test_the_command_prints_every_rate_and_what_would_add_trials(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("source: random\nname: mine\n")
    cfg = RankConfig(
        output=str(tmp_path / "run"),
        policies=[str(tmp_path / "mine.yaml")],
        tasks=["open_drawer"],
        starts=1,
    )
    command.main(cfg)
    printed = capsys.readouterr().out
    assert re.search(r"open_drawer +mine +\d+ % \[\d+ %, \d+ %\], n = 1 +no trials", printed)
    assert f"v2w trials output=trials.csv 'policies=[{tmp_path}/mine.yaml]'" in printed
    assert "report.html" in printed and "scatter.png" not in printed


class Listing(Brightness):
    """A judge that answers with a list."""

    def verdicts(self, frames, task):
        return [True] * len(frames)


@pytest.mark.parametrize(
    ("table", "judge", "message"),
    [
        ("policy,task\na,close_drawer\n", Brightness(), "expected columns"),
        (
            "policy,task,start,start_seed,success\na,open_drawer,0,7,True\n",
            Brightness(),
            "same scene",
        ),
        ("policy,task,start,start_seed,success\na,open_drawer,0,,maybe\n", Brightness(), "'maybe'"),
        (None, Listing(), "expected `success` of the verdicts of judge 'brightness'"),
        (None, object(), "found object without name, card, success, verdicts"),
    ],
)
def test_what_cannot_be_ranked_is_refused_before_anything_is_written(
    tmp_path, table, judge, message
):
    if table:
        (tmp_path / "trials.csv").write_text(table)
    cfg = config(tmp_path / "run", trials=str(tmp_path / "trials.csv") if table else None)
    never = Looking("a", interrupt_after=0)
    with pytest.raises(ValueError, match=message) as error:
        rank(cfg, model=MODEL, policies=[never], judge=judge)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_found_out_before_a_policy_acts(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(OSError, match="expected a writable folder"):
        rank(
            config(tmp_path / "run"),
            model=MODEL,
            policies=[Looking("mine", interrupt_after=0)],
            judge=Brightness(),
        )


def test_rank_refuses_trials_with_other_driver_settings(tmp_path):
    cfg = config(tmp_path / "run", trials=trials(tmp_path))
    slower = RobotPolicy(Looking("a"), STANDIN_SAWYER, ProcessingConfig(scale=0.5))
    with pytest.raises(ValueError, match="expected trials of a with weights and driver settings"):
        rank(cfg, model=MODEL, policies=[slower], judge=Brightness())
    assert not (tmp_path / "run").exists()


def test_rank_notes_what_was_coped_with(tmp_path):
    cfg = config(tmp_path / "run", trials=trials(tmp_path), tasks=["open_drawer"])
    comparison = rank(cfg, model=MODEL, policies=[Overshooting("a")], judge=Brightness())
    steps = sum(row.steps for row in read_rows(tmp_path / "run" / ROWS))
    assert f"a: stumbled, {steps} times in 6 of 6 rollouts." in comparison.notes


def test_rank_finds_out_first_that_trials_are_of_other_weights(tmp_path):
    cfg = config(tmp_path / "run", trials=trials(tmp_path, weights="123"))
    with pytest.raises(
        ValueError, match=r"expected trials of a with weights .* `name:` of its own"
    ):
        rank(cfg, model=MODEL, policies=[Looking("a")], judge=Brightness())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def checkpoint(tmp_path):
    """An untrained network."""
    torch.set_num_threads(1)
    cfg = WorldModelConfig(
        autoencoder=AutoencoderConfig(channels=(8, 8), blocks=1, latent_channels=4),
        unet=UNetConfig(channels=16, head_channels=8, groups=4),
        sampler=SamplerConfig(steps=1),
    )
    Vid2World(cfg).save(tmp_path / "model.safetensors", {})
    return str(tmp_path / "model.safetensors")


@pytest.fixture
def few(checkpoint, tmp_path):
    """Settings for one policy, task and start."""
    return RankConfig(
        output=str(tmp_path / "run"),
        checkpoint=checkpoint,
        policies=["zero"],
        tasks=["open_drawer"],
        starts=1,
    )


def test_another_sampler_ranks_in_a_folder_of_its_own(few, tmp_path):
    rank(few, judge=Brightness())
    same = dataclasses.replace(few, sampler={"steps": 1})  # what the checkpoint says anyway
    rank(same, judge=Brightness())
    with pytest.raises(ValueError, match="holds another run: expected model"):
        rank(dataclasses.replace(few, sampler={"steps": 2}), judge=Brightness())
    with pytest.raises(ValueError, match="holds another run: expected model"):
        rank(dataclasses.replace(few, preset="faithful"), judge=Brightness())
    other = dataclasses.replace(few, output=str(tmp_path / "other"), sampler={"steps": 2})
    rank(other, judge=Brightness())
    (ours,) = read_rows(tmp_path / "other" / ROWS)
    expected = load_world_model(few.checkpoint, sampler={"steps": 2})
    assert ours.model_fingerprint == expected.fingerprint


def test_the_committed_gate_is_not_claimed_for_another_sampler(few, tmp_path, monkeypatch):
    failed = {"task": "open_drawer", "asked": "the moon", "found": "cheese", "passed": False}
    gate = {
        "model": load_world_model(few.checkpoint).fingerprint,
        "judge": "brightness",
        "open_loop": [],
        "checks": [failed],
    }
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    monkeypatch.setattr(committed, "GATE", tmp_path / "gate.json")
    as_gated = rank(few, judge=Brightness())
    other = dataclasses.replace(few, output=str(tmp_path / "other"), sampler={"steps": 2})
    with_other_sampler = rank(other, judge=Brightness())
    assert any("the moon" in note for note in as_gated.notes)
    assert not any("the moon" in note for note in with_other_sampler.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"preset": "drafft"}, "did you mean 'draft'"), ({"sampler": {"stepz": 1}}, "'steps'")],
)
def test_an_unknown_sampler_is_refused_before_anything_is_written(few, settings, message):
    with pytest.raises(ValueError, match=message):
        rank(dataclasses.replace(few, **settings))
    assert not Path(few.output).exists()
