"""Training from recorded episodes and from RLDS data sets, resumed and not."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.rlds_folders import fractal_episode, write_rlds
from v2w_gym.configs.loader import load_config
from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.configs.train import AdamConfig, TrainPolicyConfig
from v2w_gym.policies.instructions import make_table, save_table
from v2w_gym.policies.rt1 import training
from v2w_gym.policies.rt1.batches import draw_batch, read_ahead, read_data
from v2w_gym.policies.rt1.demonstrations import Windows
from v2w_gym.policies.rt1.loss import token_loss
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.policy import load_rt1
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.policies.rt1.training import network_sizes, predict, stage_steps, train
from v2w_gym.world_models.checkpoint import load_checkpoint

TOKENIZER = ActionTokenizer(STANDIN_SAWYER)
CONFIGS = Path(training.__file__).parents[2] / "configs"


def make_windows() -> Windows:
    rng = np.random.default_rng(0)
    return Windows(
        frames=torch.from_numpy(rng.integers(0, 256, (2, 6, 64, 64, 3), np.uint8)),
        instructions=torch.from_numpy(
            make_table(["close the drawer", "open the drawer"], 8).vectors
        ),
        tokens=torch.from_numpy(rng.integers(0, 256, (2, 6, 11))),
        mask=torch.tensor([[True] * 6, [True] * 2 + [False] * 4]),
    )


def loss_of(network: RT1Network, windows: Windows) -> float:
    free = torch.from_numpy(TOKENIZER.free)
    return token_loss(predict(network, windows), windows.tokens, windows.mask, free).item()


def lines_of(cfg: TrainPolicyConfig) -> list[dict]:
    metrics = Path(cfg.output) / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def weights_of(paths: list[Path]) -> list[dict[str, torch.Tensor]]:
    return [load_checkpoint(path)[0] for path in paths]


def equal(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def fractal_cfg(tiny: RT1Config, tmp_path: Path) -> TrainPolicyConfig:
    """A tiny network on three RLDS episodes at their own frame size, by the published recipe."""
    vectors = np.eye(512, dtype=np.float32)
    episodes = [
        fractal_episode(steps, text, vectors[i], i)
        for i, (steps, text) in enumerate([(9, "Pick coke can."), (4, "close drawer"), (7, "go")])
    ]
    folder = write_rlds(tmp_path / "0.1.0", [episodes[:2], episodes[2:]])
    sizes = replace(tiny, image_size=(256, 320), input_size=(32, 40), instruction_size=512)
    return TrainPolicyConfig(
        output=str(tmp_path / "run"),
        weights=str(tmp_path / "weights"),
        robot="google_robot",
        episodes=[f"{folder}:train[:1shard]"],
        held_out=[f"{folder}:train[1shard:]"],
        stages={"begin": 1, "converged": 1.0},
        network=asdict(sizes),
        steps=4,
        batch_size=3,
        optimiser=AdamConfig(1e-4, 0, "constant", 0.0, 1e-7, None, "zero"),
        augmentation="pad_crop",
        save_every=2,
        held_out_windows=6,
    )


def elsewhere(cfg: TrainPolicyConfig, name: str) -> TrainPolicyConfig:
    return replace(cfg, output=f"{cfg.output}-{name}", weights=f"{cfg.weights}-{name}")


def interrupt(cfg: TrainPolicyConfig, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and stop when the loss of step `at` (from 0) has been computed."""
    losses = []

    def interrupted(*args):
        losses.append(token_loss(*args))
        if len(losses) > at:
            raise KeyboardInterrupt
        return losses[-1]

    with monkeypatch.context() as patch:
        patch.setattr(training, "token_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(cfg)


def test_loss_of_a_network_that_knows_nothing_is_the_log_of_the_bins(network: RT1Network):
    network.read_out.weight.data.zero_()
    network.read_out.bias.data.zero_()
    assert loss_of(network, make_windows()) == pytest.approx(math.log(256), abs=1e-5)


def test_padding_and_locked_fields_do_not_train(network: RT1Network):
    windows = make_windows()
    loss = loss_of(network, windows)
    windows.tokens[1, 2:] = 0
    windows.tokens[:, :, 4:7] = 0  # rotation, which the stand-in lacks
    windows.tokens[:, :, 8:] = 0  # and the base
    windows.frames[1, 2:] = 0
    assert loss_of(network, windows) == pytest.approx(loss, abs=1e-6)
    windows.tokens[1, 1, 7] ^= 1  # gripper at a real step
    assert loss_of(network, windows) != pytest.approx(loss, abs=1e-6)


def test_all_tokens_of_the_real_robot_train():
    assert ActionTokenizer(GOOGLE_ROBOT).free.all()


def test_training_learns_the_labels(train_cfg: TrainPolicyConfig):
    adam = AdamConfig(learning_rate=3e-3, warmup=2)
    cfg = replace(train_cfg, steps=30, augmentation="none", batch_size=8, optimiser=adam)
    train(cfg)
    losses = [line["loss"] for line in lines_of(cfg) if "loss" in line]
    assert len(losses) == 30
    assert np.mean(losses[-4:]) < losses[0] - 0.5


def test_the_same_from_an_rlds_data_set(
    fractal_cfg: TrainPolicyConfig, monkeypatch: pytest.MonkeyPatch
):
    expected = weights_of(train(elsewhere(fractal_cfg, "whole")))
    interrupt(fractal_cfg, 3, monkeypatch)
    ahead = replace(fractal_cfg, readers=2)  # batches are the same however they are read
    assert equal(weights_of(train(ahead)), expected)


@pytest.mark.slow
def test_a_killed_process_resumes_exactly(train_cfg: TrainPolicyConfig, tmp_path: Path):
    cfg = replace(train_cfg, held_out=[], steps=60, stages={"end": 60}, save_every=5)
    expected = weights_of(train(elsewhere(cfg, "whole")))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(asdict(cfg)))
    code = (
        "import sys; from v2w_gym.configs.loader import load_config\n"
        "from v2w_gym.configs.train import TrainPolicyConfig\n"
        "from v2w_gym.policies.rt1.training import train\n"
        "train(load_config(TrainPolicyConfig, [sys.argv[1]], []))\n"
    )
    yaml = settings.rename(settings.with_suffix(".yaml"))  # JSON is YAML
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(yaml)],
        cwd=CONFIGS.parent,
        stderr=subprocess.DEVNULL,
    )
    state = Path(cfg.output) / "train_state.pt"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not finished
    assert equal(weights_of(train(cfg)), expected)
    assert [line["step"] for line in lines_of(cfg)] == [*range(1, 61), 60]


def test_a_policy_from_rlds_knows_what_its_episodes_were_told(fractal_cfg: TrainPolicyConfig):
    begin, end = train(fractal_cfg)
    policy = load_rt1(end, GOOGLE_ROBOT)
    policy.reset(["pick coke can", "Go!"], seeds=[0, 0])  # held-out ones too
    frames = np.zeros((2, 256, 320, 3), np.uint8)
    assert policy.act(frames, np.ones(2, bool)).actions.shape == (2, 1, 13)
    with pytest.raises(ValueError, match="open the fridge"):
        policy.reset(["open the fridge"], seeds=[0])
    assert load_checkpoint(begin)[1]["step"] == 1
    assert load_checkpoint(end)[1]["step"] == 4
    assert (
        load_checkpoint(end)[1]["validation_loss"] == lines_of(fractal_cfg)[-1]["validation_loss"]
    )


def test_the_table_that_is_named_replaces_stored_embeddings(
    fractal_cfg: TrainPolicyConfig, tmp_path: Path
):
    path = tmp_path / "table.safetensors"
    save_table(path, make_table(["pick coke can", "close drawer", "go", "stay"], 512), {})
    cfg = replace(fractal_cfg, instructions=str(path), steps=1, stages={"one": 1})
    (one,) = train(cfg)
    load_rt1(one, GOOGLE_ROBOT).reset(["stay"], seeds=[0])


def test_a_table_that_lacks_an_instruction_is_refused(
    fractal_cfg: TrainPolicyConfig, tmp_path: Path
):
    path = tmp_path / "table.safetensors"
    save_table(path, make_table(["pick coke can"], 512), {})
    with pytest.raises(ValueError, match="found 'close drawer'"):
        train(replace(fractal_cfg, instructions=str(path)))


def test_the_encoder_starts_from_the_weights_that_are_named(train_cfg: TrainPolicyConfig):
    with pytest.raises(FileNotFoundError, match="timm's EfficientNet weights at nowhere"):
        train(replace(train_cfg, encoder_weights="nowhere"))


def test_a_run_without_held_out_episodes_has_no_validation_loss(train_cfg: TrainPolicyConfig):
    cfg = replace(train_cfg, held_out=[], steps=1, stages={"one": 1})
    (one,) = train(cfg)
    assert load_checkpoint(one)[1]["validation_loss"] is None


def test_stages_are_policies_named_after_their_stage(train_cfg: TrainPolicyConfig):
    names = [load_rt1(path, STANDIN_SAWYER).meta.name for path in train(train_cfg)]
    assert names == ["early", "end"]


def test_a_stage_that_an_interruption_kept_from_its_end_is_made_up_for(
    train_cfg: TrainPolicyConfig, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "validation_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(train_cfg)
    whole = elsewhere(train_cfg, "whole")
    assert equal(weights_of(train(train_cfg)), weights_of(train(whole)))
    assert lines_of(train_cfg) == lines_of(whole)


def test_a_finished_run_is_not_trained_again(train_cfg: TrainPolicyConfig):
    before = [path.stat().st_mtime_ns for path in train(train_cfg)]
    assert [path.stat().st_mtime_ns for path in train(train_cfg)] == before


def test_other_settings_do_not_resume_a_run(train_cfg: TrainPolicyConfig):
    train(train_cfg)
    adam = replace(train_cfg.optimiser, warmup=9)
    with pytest.raises(ValueError, match=r"run holds another run: expected optimiser\.warmup"):
        train(replace(train_cfg, optimiser=adam))
    with pytest.raises(ValueError, match="expected steps 4, found 8"):
        train(replace(train_cfg, steps=8))
    (folder,) = train_cfg.episodes
    next(Path(folder).rglob("episode_*.npz")).unlink()
    with pytest.raises(ValueError, match=r"expected data\.episodes '2 files .*', found '1 files"):
        train(train_cfg)


def test_a_run_goes_on_elsewhere(
    train_cfg: TrainPolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = weights_of(train(elsewhere(train_cfg, "whole")))
    interrupt(train_cfg, 3, monkeypatch)
    Path(train_cfg.output).rename(tmp_path / "moved")
    (folder,) = train_cfg.episodes
    Path(folder).rename(tmp_path / "mounted")
    moved = replace(
        train_cfg,
        output=str(tmp_path / "moved"),
        weights=str(tmp_path / "moved" / "weights"),
        episodes=[str(tmp_path / "mounted")],
        held_out=[str(tmp_path / "mounted")],
    )
    paths = train(moved)
    assert equal(weights_of(paths), expected[1:])  # the first stage lies where it was put
    train_card = load_checkpoint(paths[-1])[1]["train"]
    assert not {"output", "weights"} & set(train_card)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "/tmp/evil"])
def test_a_stage_whose_name_is_not_plain_is_refused(train_cfg: TrainPolicyConfig, name: str):
    with pytest.raises(ValueError, match="expected a (file )?name"):
        train(replace(train_cfg, stages={name: 1.0}))
    assert not Path(train_cfg.output).exists()


def test_weights_that_cannot_be_written_are_noticed_before_the_first_step(
    train_cfg: TrainPolicyConfig, tmp_path: Path
):
    (tmp_path / "blocked").touch()
    with pytest.raises(OSError, match="blocked/weights, found: .*choose another one with weights="):
        train(replace(train_cfg, weights=str(tmp_path / "blocked" / "weights")))
    assert not Path(train_cfg.output).exists()


def test_a_failed_start_leaves_no_run_behind(train_cfg: TrainPolicyConfig):
    with pytest.raises(FileNotFoundError):
        train(replace(train_cfg, episodes=["nowhere"]))
    assert not Path(train_cfg.output).exists()


def test_the_statistics_of_batch_norms_are_trained_and_used(train_cfg: TrainPolicyConfig):
    (early, end) = weights_of(train(train_cfg))
    names = [name for name in end if name.endswith("running_mean")]
    assert names
    assert all(not torch.equal(early[name], end[name]) for name in names)


def test_stages_by_step_and_by_share():
    cfg = TrainPolicyConfig(stages={"a": 1, "b": 0.001, "c": 0.5, "d": 1.0, "e": 200}, steps=200)
    assert stage_steps(cfg) == {"a": 1, "b": 1, "c": 100, "d": 200, "e": 200}


def test_a_whole_number_stays_one_when_settings_are_read():
    cfg = load_config(TrainPolicyConfig, [], ["episodes=[x]", "stages={a: 1, b: 1.0}"])
    assert stage_steps(cfg) == {"a": 1, "b": 2000}


@pytest.mark.parametrize("at", [1.5, -0.1, 0.0, 0, 10**12])
def test_a_stage_that_no_training_has_is_refused(at: float):
    with pytest.raises(ValueError, match=rf"stages.late.* found {at}"):
        stage_steps(TrainPolicyConfig(stages={"late": at}))


@pytest.mark.parametrize("at", [0.0, 201])
def test_a_stage_outside_the_training_is_refused(at: float):
    cfg = TrainPolicyConfig(stages={"late": at}, steps=200)
    message = rf"expected stages.late as a step from 1 to 200 or .* in \(0.0, 1.0\], found {at}"
    with pytest.raises(ValueError, match=message):
        stage_steps(cfg)


def test_a_run_without_stages_is_refused():
    with pytest.raises(ValueError, match="expected at least one stage"):
        stage_steps(TrainPolicyConfig(stages={}))


def test_sizes_are_those_named_with_what_is_changed():
    cfg = TrainPolicyConfig(size="rt1", network={"layers": 2, "channels": [8] * 7})
    assert network_sizes(cfg) == replace(RT1_SIZES["rt1"], layers=2, channels=(8,) * 7)
    with pytest.raises(ValueError, match=r"unknown setting network\.layer; did you mean 'layers'"):
        network_sizes(TrainPolicyConfig(network={"layer": 2}))
    with pytest.raises(ValueError, match="expected size to be one of"):
        network_sizes(TrainPolicyConfig(size="rt2"))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 0}, r"expected network\.width >= 1, found 0"),
        ({"image_size": [64, -1]}, r"expected network\.image_size\[1\] >= 1, found -1"),
        ({"dropout": 2.0}, r"expected network\.dropout <= 0.99, found 2"),
        ({"channels": [8]}, "expected one entry per stage of the encoder"),
    ],
)
def test_impossible_sizes_are_refused(sizes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        network_sizes(TrainPolicyConfig(network=sizes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"save_every": 0}, "expected save_every >= 1, found 0"),
        ({"threads": 0}, "expected threads >= 1, found 0"),
        ({"device": "bananas"}, "expected a device that PyTorch can use"),
        ({"episodes": []}, "expected folders in episodes"),
        ({"stages": {"v1": {"0": 1.0}}}, "cannot set stages.v1"),
        ({"stages": {"../../evil": 1}}, "cannot set stages: expected a file name"),
    ],
)
def test_settings_out_of_range_are_refused(
    train_cfg: TrainPolicyConfig, changes: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        train(replace(train_cfg, **changes))
    assert not Path(train_cfg.output).exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"image_size": (32, 32)},
            r"expected frames of \(32, 32\) pixels, found \(256, 320\); set",
        ),
        ({"instruction_size": 64}, "expected instruction vectors of 64 values, found 512; set"),
    ],
)
def test_data_that_do_not_fit_the_network_are_refused(
    fractal_cfg: TrainPolicyConfig, change: dict, message: str
):
    with pytest.raises(ValueError, match=message):
        train(replace(fractal_cfg, network={**fractal_cfg.network, **change}))


@pytest.mark.parametrize("augmentation", ["none", "shift", "pad_crop"])
def test_batches_are_functions_of_seed_and_step(fractal_cfg: TrainPolicyConfig, augmentation: str):
    cfg = replace(fractal_cfg, augmentation=augmentation)
    sizes = network_sizes(cfg)
    data, _, _ = read_data(cfg, sizes, GOOGLE_ROBOT, ActionTokenizer(GOOGLE_ROBOT))
    first = draw_batch(data, cfg, sizes, 3)
    assert torch.equal(draw_batch(data, cfg, sizes, 3).frames, first.frames)
    assert not torch.equal(draw_batch(data, cfg, sizes, 4).tokens, first.tokens)
    other = draw_batch(data, replace(cfg, seed=1), sizes, 3)
    assert not torch.equal(other.tokens, first.tokens)
    plain = draw_batch(data, replace(cfg, augmentation="none"), sizes, 3)
    assert torch.equal(plain.tokens, first.tokens)
    assert torch.equal(plain.frames, first.frames) == (augmentation == "none")


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_read_ahead_come_in_order(threads: int):
    def read(step: int) -> int:
        time.sleep(0.002 * (step % 3))
        return step

    assert list(read_ahead(read, range(20), threads)) == [*range(20)]


def test_a_batch_that_cannot_be_read_stops_the_training():
    def read(step: int) -> int:
        if step == 2:
            raise ValueError("damaged")
        return step

    batches = read_ahead(read, range(20), 2)
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="damaged"):
        next(batches)


def test_the_published_recipe_is_what_its_file_says():
    cfg = load_config(TrainPolicyConfig, [str(CONFIGS / "train_policy_rt1.yaml")], [])
    assert network_sizes(cfg) == RT1_SIZES["rt1"]
    assert cfg.optimiser == AdamConfig(1e-4, 0, "constant", 0.0, 1e-7, None, "zero")
    assert (cfg.augmentation, cfg.precision, cfg.robot) == ("pad_crop", "float32", "google_robot")
    assert stage_steps(cfg) == {"rt1-begin": 1120, "rt1-15": 58240, "rt1-converged": 400120}


def test_the_bundled_recipe_keeps_its_five_stages():
    cfg = load_config(TrainPolicyConfig, [str(CONFIGS / "train_policy_standin.yaml")], [])
    assert network_sizes(cfg) == RT1_SIZES["small"]
    assert [*stage_steps(cfg).values()] == [40, 300, 500, 800, 2000]


@pytest.mark.slow
def test_a_step_at_full_size(fractal_cfg: TrainPolicyConfig):
    cfg = replace(
        fractal_cfg, size="rt1", network={}, steps=1, batch_size=1, stages={"one": 1}, held_out=[]
    )
    (one,) = train(cfg)
    line = lines_of(cfg)[0]
    assert 4 < line["loss"] < 8  # log 256 is 5.5
    assert load_rt1(one, GOOGLE_ROBOT).meta.image_size == (256, 320)
