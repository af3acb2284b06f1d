import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.policy import TrainPolicyConfig
from configs.robots import STANDIN_SAWYER
from policies.instructions import InstructionTable
from policies.rt1 import training
from policies.rt1.demonstrations import Windows
from policies.rt1.network import RT1Network
from policies.rt1.policy import load_rt1
from policies.rt1.tokenizer import ActionTokenizer
from policies.rt1.training import learning_rate, token_loss, train
from world_models.checkpoint import load_checkpoint

TOKENIZER = ActionTokenizer(STANDIN_SAWYER)


def make_windows() -> Windows:
    rng = np.random.default_rng(0)
    return Windows(
        frames=torch.from_numpy(rng.integers(0, 256, (2, 6, 64, 64, 3), np.uint8)),
        tokens=torch.from_numpy(rng.integers(0, 256, (2, 6, 11))),
        mask=torch.tensor([[True] * 6, [True] * 2 + [False] * 4]),
        instructions=np.array(["close the drawer", "open the drawer"]),
    )


def test_loss_of_a_network_that_knows_nothing_is_the_log_of_the_bins(
    network: RT1Network, table: InstructionTable
):
    network.read_out.weight.data.zero_()
    network.read_out.bias.data.zero_()
    loss = token_loss(network, make_windows(), table, TOKENIZER)
    assert loss.item() == pytest.approx(math.log(256), abs=1e-5)


def test_padding_and_locked_fields_do_not_train(network: RT1Network, table: InstructionTable):
    windows = make_windows()
    loss = token_loss(network, windows, table, TOKENIZER)
    windows.tokens[1, 2:] = 0
    windows.tokens[:, :, 4:7] = 0  # rotation, which the stand-in lacks
    assert torch.equal(token_loss(network, windows, table, TOKENIZER), loss)
    windows.tokens[1, 1, 7] ^= 1  # gripper at a real step
    assert not torch.equal(token_loss(network, windows, table, TOKENIZER), loss)


def test_learning_rate_warms_up_and_ends_at_zero():
    cfg = TrainPolicyConfig(steps=1000, warmup=10, learning_rate=1e-3)
    assert learning_rate(cfg, 0) == pytest.approx(1e-4)
    assert learning_rate(cfg, 500) == pytest.approx(5e-4)
    assert learning_rate(cfg, 1000) == pytest.approx(0)


def test_training_learns_the_labels(train_cfg: TrainPolicyConfig):
    cfg = replace(train_cfg, steps=40, shift=0, batch_size=8, learning_rate=3e-3, save_every=40)
    early, end = (load_checkpoint(path)[1]["validation_loss"] for path in train(cfg))
    assert end < early - 0.5


def test_interrupted_and_resumed_equals_uninterrupted(
    train_cfg: TrainPolicyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = replace(train_cfg, output=str(tmp_path / "b"), weights=str(tmp_path / "bw"))
    expected = [load_checkpoint(path)[0] for path in train(whole)]
    follow = training._follow

    def interrupted(*args):
        if args[-1] == 3:
            raise KeyboardInterrupt
        follow(*args)

    monkeypatch.setattr(training, "_follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(train_cfg)
    monkeypatch.setattr(training, "_follow", follow)
    resumed = [load_checkpoint(path)[0] for path in train(train_cfg)]
    for stage, other in zip(resumed, expected, strict=True):
        assert stage.keys() == other.keys()
        assert all(torch.equal(stage[name], other[name]) for name in stage)
    early, end = resumed
    assert any(not torch.equal(early[name], end[name]) for name in early)


def test_stages_are_policies_named_after_their_stage(train_cfg: TrainPolicyConfig):
    names = [load_rt1(path, STANDIN_SAWYER).meta.name for path in train(train_cfg)]
    assert names == ["early", "end"]


def test_a_finished_run_is_not_trained_again(train_cfg: TrainPolicyConfig):
    before = [path.stat().st_mtime_ns for path in train(train_cfg)]
    assert [path.stat().st_mtime_ns for path in train(train_cfg)] == before


def test_other_settings_do_not_resume_a_run(train_cfg: TrainPolicyConfig):
    train(train_cfg)
    with pytest.raises(ValueError, match="to be a run of the present settings"):
        train(replace(train_cfg, learning_rate=1e-5))


def test_stage_outside_the_training_is_refused(train_cfg: TrainPolicyConfig):
    with pytest.raises(ValueError, match=r"expected stages.late in \(0, 1\], found 1.5"):
        train(replace(train_cfg, stages={"late": 1.5}))
