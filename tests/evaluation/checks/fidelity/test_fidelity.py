"""The whole comparison on an untrained network: identities, resuming, and errors."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import RolloutConfig
from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.evaluation.checks.bench.costs import step_costs
from v2w_gym.evaluation.checks.fidelity import imagined as imagining
from v2w_gym.evaluation.checks.fidelity.change import pixel_error, to_psnr
from v2w_gym.evaluation.checks.fidelity.fidelity import run_fidelity
from v2w_gym.evaluation.imagine.imagination import run_rollout
from v2w_gym.evaluation.imagine.stepwise import load_frames
from v2w_gym.evaluation.records.rows import ROWS, load_rows
from v2w_gym.judges.base import Verdicts
from v2w_gym.scripts import fidelity as command
from v2w_gym.starts import bundled_starts
from v2w_gym.world_models.data.labelled import LabelledEpisode, load_labelled, save_labelled
from v2w_gym.world_models.loading import load_world_model
from v2w_gym.world_models.vid2world.model import Vid2World

TASK = "open_drawer"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    cfg = WorldModelConfig(
        window=4,
        autoencoder=AutoencoderConfig(channels=(8, 8), blocks=1, latent_channels=4),
        unet=UNetConfig(channels=16, head_channels=8, groups=4),
        sampler=SamplerConfig(steps=2),
    )
    model = Vid2World(cfg)
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)  # a layer left at zero hides what it reads
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    model.save(path, {})
    return str(path)


@pytest.fixture(autouse=True, scope="module")
def _quick_counts():
    """Replace the slow counting, which has its own test, by any number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "v2w_gym.evaluation.checks.fidelity.fidelity.step_costs",
            lambda model, numbers: [{"frame_forwards": 7, "flops": 8}],
        )
        yield


def settings(checkpoint, folder):
    return FidelityConfig(
        output=str(folder / "run"),
        checkpoint=checkpoint,
        preset=None,
        sampler={"steps": 3},
        candidates={"same": {}, "fewer": {"steps": 1}, "card": "card"},
        task=TASK,
        limit=3,
        steps=5,
        horizons=[1, 4, 16],
        starts=2,
    )


@pytest.fixture
def cfg(checkpoint, tmp_path):
    return settings(checkpoint, tmp_path)


@pytest.fixture(scope="module")
def finished(checkpoint, tmp_path_factory):
    """A run that is only read: its settings and what was found."""
    cfg = settings(checkpoint, tmp_path_factory.mktemp("finished"))
    return cfg, run_fidelity(cfg)


@pytest.fixture
def imagined(monkeypatch):
    """Return the names of the samplers that really imagine, and what can interrupt at one."""
    names, run = [], imagining.imagine

    def watched(variant, scenes, batch_size):
        if variant.name == watched.interrupt_at:
            raise KeyboardInterrupt
        names.append(variant.name)
        return run(variant, scenes, batch_size)

    watched.interrupt_at = None
    monkeypatch.setattr(imagining, "imagine", watched)
    return names, watched


@pytest.fixture
def episodes(tmp_path):
    """Three recorded episodes of 5 steps, and one of another task."""
    rng = np.random.default_rng(0)
    actions = np.stack([STANDIN_SAWYER.make_action()] * 5)
    for seed, task in enumerate([TASK, "close_drawer", TASK, TASK]):
        episode = LabelledEpisode(
            frames=rng.integers(0, 256, (6, 64, 64, 3), np.uint8),
            actions=actions,
            expert_actions=actions,
            success=np.zeros(6, bool),
            robot="standin_sawyer",
            task=task,
            instruction=task,
            behaviour="expert",
            seed=seed,
        )
        save_labelled(tmp_path / f"episode_{seed}.npz", episode)
    return str(tmp_path)


def change(cfg, **changes):
    return dataclasses.replace(cfg, **changes)


def by_name(found):
    return {row["sampler"]: row for row in found["samplers"]}


def frames_of(cfg, name):
    return np.load(Path(cfg.output, "variants", name, "replay.npz"))["frames"]


def test_the_same_sampler_is_the_same_and_others_are_not(finished):
    found = by_name(finished[1])
    assert list(found) == ["baseline", "another_seed", "same", "fewer", "card"]
    assert list(finished[1]["psnr"]) == ["another_seed", "same", "fewer", "card"]
    assert found["baseline"]["PSNR"] is None
    assert found["same"]["PSNR"].value == 100
    for name in ("another_seed", "fewer", "card"):
        assert max(psnr.value for psnr in finished[1]["psnr"][name].values()) < 60
        assert found[name]["PSNR"].value < 60
    assert finished[1]["baseline"]["steps"] == 3
    assert found["fewer"]["differs in"] == {"steps": 1}
    assert found["card"]["differs in"] == {"steps": 2}


def test_the_cost_of_a_frame_is_measured(finished, monkeypatch):
    monkeypatch.setattr("v2w_gym.evaluation.checks.fidelity.fidelity.step_costs", step_costs)
    cfg = change(finished[0], candidates={"fewer": {"steps": 1}})
    found = by_name(run_fidelity(cfg))
    passed = [row["frame_forwards"] for row in found.values()]
    assert passed == [3 + 3, 3 + 3, 1 + 3]  # steps and known frames
    assert all(row["ms"] > 0 for row in found.values())


def test_rollouts_are_those_of_the_rollout_command(finished, tmp_path):
    cfg = finished[0]
    for sampler, name in (({"steps": 3}, "baseline"), ({"steps": 1}, "fewer")):
        single = RolloutConfig(
            output=str(tmp_path / name),
            checkpoint=cfg.checkpoint,
            sampler=sampler,
            start=1,
            episode=1,
            task=TASK,
            steps=5,
        )
        run_rollout(single)
        frames = load_frames(tmp_path / name, 1, 5)[0].astype(int)
        assert np.abs(frames_of(cfg, name)[1] - frames).max() <= 1


def test_another_seed_is_that_seed(finished):
    cfg = finished[0]
    scenes = imagining.load_scenes(cfg, STANDIN_SAWYER, 1)
    model = load_world_model(cfg.checkpoint, sampler=cfg.sampler)
    expected = imagining.imagine(imagining.Variant("", model, 1), scenes, 3)
    np.testing.assert_array_equal(frames_of(cfg, "another_seed"), expected.frames)
    moved = imagining.load_scenes(change(cfg, seed=1), STANDIN_SAWYER, 1)
    assert (moved.actions != scenes.actions).any()


def test_batch_size_changes_nothing_but_rounding(finished, tmp_path):
    cfg = change(finished[0], output=str(tmp_path), batch_size=1, candidates={"card": "card"})
    whole, alone = by_name(finished[1]), by_name(run_fidelity(cfg))
    for name in ("another_seed", "card"):
        assert whole[name]["PSNR"].value == pytest.approx(alone[name]["PSNR"].value, rel=1e-3)


def test_what_is_done_is_not_done_again(cfg, imagined):
    names, watched = imagined
    watched.interrupt_at = "fewer"
    with pytest.raises(KeyboardInterrupt):
        run_fidelity(cfg)
    watched.interrupt_at = None
    found = run_fidelity(cfg)
    assert names == ["baseline", "another_seed", "same", "fewer", "card"]
    assert run_fidelity(cfg) == found
    one_more = run_fidelity(change(cfg, candidates={**cfg.candidates, "two": {"steps": 2}}))
    assert names[5:] == ["two"]
    assert one_more["samplers"][:-1] == found["samplers"]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"steps": 4},
        {"limit": 2},
        {"task": "close_drawer"},
        {"sampler": {"steps": 2}},
        {"candidates": {"fewer": {"steps": 2}}},
    ],
)
def test_a_folder_of_other_settings_is_refused(finished, changes):
    with pytest.raises(ValueError, match="holds another run"):
        run_fidelity(change(finished[0], **changes))


def test_a_damaged_result_is_named(cfg):
    run_fidelity(cfg)
    path = Path(cfg.output) / "variants" / "card" / "replay.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"at .*card/replay\.npz, found .*; delete it"):
        run_fidelity(cfg)


def converted(path, steps=5, size=(64, 64), **moved):
    """Save frames and actions as Vid2World's converter does: no task, an action per frame."""
    frames = np.random.default_rng(steps).integers(0, 256, (steps + 1, *size, 3), np.uint8)
    actions = np.tile(STANDIN_SAWYER.make_action(**moved), (steps + 1, 1))
    np.savez(path, image=frames, action=actions)


def test_what_vid2worlds_converter_wrote_is_replayed_whatever_the_task(cfg, tmp_path, caplog):
    for number in range(2):
        converted(tmp_path / f"train_eps_{number:08d}.npz", world_vector=(0.06, 0, 0))
    found = run_fidelity(change(cfg, episodes=[str(tmp_path)]))
    assert found["recorded"] and found["rollouts"] == 2
    assert "10 of 130 values in 2 of 2 episodes were beyond the robot's bounds" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"steps": 3}, r"from 1 to 3 .* of .*#1, found 5"),
        ({"size": (48, 64)}, r"#1' does not fit: .*\(1, 48, 64, 3\)"),
    ],
)
def test_a_recording_that_cannot_be_replayed_is_named(cfg, tmp_path, wrong, text):
    converted(tmp_path / "train_eps_00000000.npz")
    converted(tmp_path / "train_eps_00000001.npz", **wrong)
    with pytest.raises(ValueError, match=text):
        run_fidelity(change(cfg, episodes=[str(tmp_path)]))


def test_recorded_episodes_of_the_task_are_replayed(cfg, episodes):
    found = run_fidelity(change(cfg, episodes=[episodes]))
    measured = by_name(found)
    assert found["recorded"]
    assert found["rollouts"] == 3
    expected = [load_labelled(Path(episodes) / f"episode_{i}.npz").frames for i in (0, 2, 3)]
    of_baseline = frames_of(cfg, "baseline")
    np.testing.assert_array_equal(of_baseline[:, 0], np.stack(expected)[:, 0])
    error = pixel_error(of_baseline, np.stack(expected))
    against = {name: row["PSNR against the recording"].value for name, row in measured.items()}
    assert against["baseline"] == pytest.approx(to_psnr(error.mean(1)).mean())
    assert measured["same"]["change"].value == 0
    changed = against["fewer"] - against["baseline"]
    assert measured["fewer"]["change"].value == pytest.approx(changed)
    assert "against the recording" in (Path(cfg.output) / "fidelity.md").read_text()


class TossedCoin:
    """Calls an attempt a success by the last bit of all its pixels."""

    name = "coin"
    card = {"kind": "coin"}

    def success(self, frames, task):
        return np.zeros(len(frames), bool)

    def verdicts(self, frames, task):
        success = frames.sum((1, 2, 3, 4)) % 2 == 1
        return Verdicts(success, np.zeros(len(frames), bool), success.astype(float))


def test_closed_loop_pairs_every_candidate_with_the_baseline(cfg, monkeypatch):
    monkeypatch.setattr(
        "v2w_gym.evaluation.checks.fidelity.fidelity.load_judge", lambda path, robot: TossedCoin()
    )
    few = {"limit": 2, "steps": 1, "candidates": {"same": {}, "fewer": {"steps": 1}}}
    found = run_fidelity(change(cfg, policies=["zero", "random"], starts=4, **few))["success"]
    assert [(row["sampler"], row["policy"]) for row in found] == [
        (name, policy)
        for name in ("same", "fewer")
        for policy in ("random", "zero", "all policies")
    ]
    rates = {}
    for name in ("baseline", "same", "fewer"):
        rows = load_rows(Path(cfg.output) / "variants" / name / "closed_loop" / ROWS)
        rates[name] = rows["success"].astype(bool).mean()
    same, fewer = found[2], found[5]
    for row in (same, fewer):
        assert (row["n"], row["success"].value) == (2 * 4, pytest.approx(rates[row["sampler"]]))
        assert row["baseline"].value == pytest.approx(rates["baseline"])
    assert (same["gained"], same["lost"]) == (0, 0)
    assert fewer["gained"] + fewer["lost"] > 0
    assert "| fewer   | all policies | 8 " in (Path(cfg.output) / "fidelity.md").read_text()


def test_other_starts_in_the_same_folder_are_refused_before_anything_is_imagined(cfg, monkeypatch):
    monkeypatch.setattr(
        "v2w_gym.evaluation.checks.fidelity.fidelity.load_judge", lambda path, robot: TossedCoin()
    )
    few = {"limit": 2, "steps": 1, "policies": ["zero"], "candidates": {"same": {}}}
    run_fidelity(change(cfg, starts=1, **few))
    later = {**few, "candidates": {"same": {}, "later": {"steps": 1}}}
    with pytest.raises(ValueError, match="holds another run: expected starts 1, found 2"):
        run_fidelity(change(cfg, starts=2, **later))
    assert not (Path(cfg.output) / "variants" / "later" / "replay.npz").exists()


def test_without_settings_the_named_presets_are_compared(checkpoint, tmp_path):
    cfg = FidelityConfig(
        output=str(tmp_path), checkpoint=checkpoint, limit=2, steps=1, horizons=[1]
    )
    found = run_fidelity(cfg)
    samplers = by_name(found)
    assert list(samplers) == ["baseline", "another_seed", "draft", "standard", "card"]
    assert found["baseline"]["steps"] == 50
    assert samplers["card"]["differs in"]["steps"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 1}, "expected at least 2 rollouts of open_drawer, found limit=1"),
        ({"limit": 1000}, "expected start to be a file or the number of a bundled start"),
        ({"batch_size": 0}, "expected batch_size >= 1, found 0"),
        ({"threads": 0}, "expected threads >= 1, found 0"),
        ({"preset": "faithfull"}, "did you mean 'faithful'"),
        ({"candidates": {"a": "drafft"}}, "did you mean 'draft'"),
        ({"candidates": {"a": 3}}, r"cannot set candidates\.a: expected settings by name, found 3"),
        ({"candidates": {"a": {"stepz": 3}}}, "did you mean 'steps'"),
        ({"candidates": {"a/b": {}}}, "expected a file name .*found 'a/b'"),
        ({"candidates": {"baseline": {}}}, "expected a candidate's name .* found 'baseline'"),
        ({"task": "opn_drawer"}, "did you mean 'open_drawer'"),
        ({"policies": ["rt1-26"]}, "did you mean 'rt1-25'"),
        ({"policies": ["zero", "zero"]}, "expected policies with different names"),
        ({"policies": ["zero"], "starts": 0}, "expected starts >= 1, found 0"),
        ({"policies": ["zero"], "judge": "nowhere"}, "expected a judge"),
        ({"episodes": ["nowhere"]}, "expected recorded data at nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(cfg, changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_fidelity(change(cfg, **changes))
    assert not Path(cfg.output).exists()


def test_the_command_prints_what_it_writes(cfg, capsys):
    command.main(change(cfg, candidates={"fewer": {"steps": 1}}))
    printed = capsys.readouterr().out
    folder = Path(cfg.output)
    assert (folder / "fidelity.md").read_text() in printed
    assert "| fewer        | steps=1" in printed
    assert "frame 4" in printed
    assert "frame 5" in printed and "frame 16" not in printed
    assert json.loads((folder / "fidelity.json").read_text())["rollouts"] == 3
    for name in ("fidelity.png", "strip.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_moves_begin_at_the_bundled_starts(finished):
    scenes = imagining.load_scenes(finished[0], STANDIN_SAWYER, 1)
    starts = [start.frame for start in bundled_starts(TASK)[:3]]
    np.testing.assert_array_equal(scenes.frames[:, -1], starts)
    assert len(np.unique(scenes.actions, axis=0)) > 1
