import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from v2w_gym.configs.evaluate import GateConfig
from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.evaluation.gate import gate
from v2w_gym.evaluation.gate.gate import run_gate
from v2w_gym.evaluation.records.rows import Row
from v2w_gym.world_models.data.labelled import LabelledEpisode, load_labelled, save_labelled
from v2w_gym.world_models.loading import load_world_model
from v2w_gym.world_models.vid2world.model import Vid2World

TASK = "close_drawer"


@pytest.fixture
def config(tmp_path):
    """An untrained network and three short held-out episodes."""
    cfg = WorldModelConfig(
        autoencoder=AutoencoderConfig(channels=(8, 8), blocks=1, latent_channels=4),
        unet=UNetConfig(channels=16, head_channels=8, groups=4),
        sampler=SamplerConfig(steps=1),
    )
    Vid2World(cfg).save(tmp_path / "model.safetensors", {})
    (tmp_path / "held_out").mkdir()
    rng = np.random.default_rng(0)
    for seed in range(3):
        actions = np.stack([STANDIN_SAWYER.make_action()] * 3)
        save_labelled(
            tmp_path / "held_out" / f"episode_{seed}.npz",
            LabelledEpisode(
                frames=rng.integers(0, 256, (4, 64, 64, 3), np.uint8),
                actions=actions,
                expert_actions=actions,
                success=np.array([False, False, True, True]),
                robot="standin_sawyer",
                task=TASK,
                instruction="close the drawer",
                behaviour="expert",
                seed=seed,
                state={"opening": np.linspace(0.1, 0.0, 4, dtype=np.float32)},
            ),
        )
    return GateConfig(
        output=str(tmp_path / "gate"),
        checkpoint=str(tmp_path / "model.safetensors"),
        episodes=[str(tmp_path / "held_out")],
    )


def rows(policy, successes, fingerprint):
    return [
        asdict(
            Row(
                policy=policy,
                task=TASK,
                start=start,
                start_seed=start,
                seed=0,
                success=bool(success),
                steps=3,
                score=0.5,
                judge="judge",
                policy_fingerprint="",
                model_fingerprint=fingerprint,
                video="",
            )
        )
        for start, success in enumerate(successes)
    ]


@pytest.fixture
def ranked(config, tmp_path):
    """Return a config whose rank run and trials have the success counts given, out of 20."""

    ours = load_world_model(config.checkpoint).fingerprint

    def make(simulated, real, fingerprint=ours):
        run, table = tmp_path / "run", ["policy,task,start,start_seed,success"]
        run.mkdir()
        lines = []
        for policy, count in simulated.items():
            lines += rows(policy, [i < count for i in range(20)], fingerprint)
        (run / "rollouts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for policy, count in real.items():
            table += [f"{policy},{TASK},{i},{i},{str(i < count).lower()}" for i in range(20)]
        (tmp_path / "trials.csv").write_text("\n".join(table) + "\n")
        return replace(config, run=str(run), trials=str(tmp_path / "trials.csv"))

    return make


def closed_loop(result):
    return [check for check in result.checks if "episodes" not in check.asked][-2:]


def test_a_network_without_knowledge_fails_and_says_so(config, tmp_path):
    result = run_gate(config)
    assert not result.passed
    assert result.open_loop[0].n == 3 and result.open_loop[0].agreed == 0
    page = (tmp_path / "gate" / "gate.md").read_text()
    assert page.startswith("# Validation gate: NOT passed")
    assert "not measured: set run=" in page
    assert json.loads((tmp_path / "gate" / "gate.json").read_text())["checks"]
    assert (tmp_path / "gate" / f"{TASK}.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"robot": "unknown"}, r"robot 'standin_sawyer' in .*episode_9.npz, found 'unknown'"),
        ({"task": "open_drawr"}, r"task of .*episode_9.npz .*did you mean 'open_drawer'"),
        ({"task": "play"}, r"task of .*episode_9.npz to be one of .*found 'play'"),
        ({"state": {}}, r"opening \(4,\) in the state of .*episode_9.npz, found {}"),
        ({"frames": np.zeros((4, 48, 64, 3), np.uint8)}, r"episode_9.npz, found \(48, 64\)"),
        ({"actions": np.zeros((3, 7)), "expert_actions": np.zeros((3, 7))}, r"_9.npz do not fit"),
    ],
)
def test_an_episode_that_does_not_fit_is_named_before_anything_is_written(
    config, tmp_path, changes, text
):
    path = tmp_path / "held_out" / "episode_2.npz"
    save_labelled(path.with_name("episode_9.npz"), replace(load_labelled(path), **changes))
    with pytest.raises(ValueError, match=text):
        run_gate(config)
    assert not (tmp_path / "gate").exists()


def test_episodes_of_a_task_are_of_one_length(config, tmp_path):
    path = tmp_path / "held_out" / "episode_2.npz"
    whole = load_labelled(path)
    short = {name: getattr(whole, name)[:-1] for name in ("frames", "success")}
    short |= {name: getattr(whole, name)[:-1] for name in ("actions", "expert_actions")}
    state = {"opening": whole.state["opening"][:-1]}
    save_labelled(path.with_name("episode_9.npz"), replace(whole, **short, state=state))
    with pytest.raises(ValueError, match=r"expected 4 frames in .*episode_9.npz.*found 3"):
        run_gate(config)


def test_recorded_actions_out_of_bounds_are_clipped_and_logged(config, tmp_path, caplog):
    path = tmp_path / "held_out" / "episode_2.npz"
    actions = load_labelled(path).actions
    actions[1, 10] = 0.4
    save_labelled(path, replace(load_labelled(path), actions=actions))
    run_gate(config)
    assert "1 of 117 values in 1 of 3 episodes were beyond the robot's bounds" in caplog.text


def test_recordings_without_success_cannot_be_judged(config, tmp_path):
    frames, actions = np.zeros((4, 64, 64, 3), np.uint8), np.zeros((4, 13))
    np.savez(tmp_path / "held_out" / "train_eps_0.npz", image=frames, action=actions)
    with pytest.raises(ValueError, match=r"train_eps_0.npz, found .*without .*success"):
        run_gate(config)


def test_the_right_order_and_an_idle_null_policy_pass(ranked):
    order, null = closed_loop(run_gate(ranked({"zero": 0, "good": 15}, {"zero": 0, "good": 18})))
    assert order.passed and order.found == "1 of 1"
    assert null.passed and null.found == "0.00 [0.00, 0.16], n = 20"


def test_the_wrong_order_and_a_lucky_null_policy_fail(ranked):
    order, null = closed_loop(run_gate(ranked({"zero": 9, "good": 3}, {"zero": 0, "good": 18})))
    assert not order.passed and "0 of 1; not zero / good" in order.found
    assert not null.passed and null.found.startswith("0.45")


def test_a_run_without_the_null_policy_fails(ranked):
    _, null = closed_loop(run_gate(ranked({"bad": 1, "good": 15}, {"bad": 0, "good": 18})))
    assert not null.passed and "no policy 'zero'" in null.found


def test_a_run_of_another_world_model_is_refused(ranked):
    with pytest.raises(ValueError, match=r"expected a rank run of world model .*\['other'\]"):
        run_gate(ranked({"zero": 0, "good": 9}, {"zero": 0, "good": 9}, fingerprint="other"))


@pytest.fixture
def never_imagined(monkeypatch):
    def imagine(*_):
        raise AssertionError("expected the tables to be read first")

    monkeypatch.setattr(gate, "imagine", imagine)


def test_trials_of_none_of_the_policies_are_refused_before_anything_is_imagined(
    ranked, never_imagined, tmp_path
):
    with pytest.raises(ValueError, match=r"no trials of it.* Record some with `v2w trials`"):
        run_gate(ranked({"mine": 1}, {"zero": 0}))
    assert not (tmp_path / "gate").exists()


def test_trials_of_other_weights_are_refused_before_anything_is_imagined(ranked, never_imagined):
    cfg = ranked({"good": 15}, {"good": 18})
    table = pd.read_csv(cfg.trials).assign(policy_fingerprint="other")
    table.to_csv(cfg.trials, index=False)
    with pytest.raises(ValueError, match="expected trials of good with weights"):
        run_gate(cfg)


def test_a_missing_table_is_found_out_before_anything_is_imagined(ranked, never_imagined):
    cfg = replace(ranked({"good": 15}, {"good": 18}), trials="nowhere.csv")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        run_gate(cfg)


def test_a_policy_without_trials_is_no_part_of_the_order(ranked):
    order, null = closed_loop(
        run_gate(ranked({"zero": 0, "good": 9, "mine": 1}, {"zero": 0, "good": 9}))
    )
    assert order.passed and order.found == "1 of 1"
    assert null.passed
