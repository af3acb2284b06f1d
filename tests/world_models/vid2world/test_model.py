import json

import numpy as np
import pytest
import torch

from world_models.base import FrameNoise
from world_models.vid2world.model import load_vid2world


def step_once(model):
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    action = model.robot.make_action(world_vector=0.03)[None]
    return model.step(model.start(frames), action, FrameNoise((0,), (0,), (1,)))


def test_actions_are_brought_to_unit_range(tiny_model):
    action = tiny_model.robot.make_action(world_vector=0.05, gripper_closedness_action=-0.5)
    unit = tiny_model.normalised(torch.from_numpy(action)).tolist()
    #       base   rotation gripper wrist    terminate: continue  hand
    assert unit == pytest.approx([0, 0, 0, -0.5, 0, 0, 0, -1, 1, -1, 1, 1, 1], abs=1e-6)


def test_a_missing_action_is_a_hidden_one(tiny_model):
    noisy, levels = torch.randn(1, 2, 4, 8, 8), torch.full((1, 2), 500)
    actions = torch.zeros(1, 2, 13)
    missing = actions.clone()
    missing[:, 0] = float("nan")
    mask = torch.ones(1, 2, dtype=torch.bool)
    hidden = torch.tensor([[False, True]])
    condition = torch.zeros(1, 4, 8, 8)
    one = tiny_model.velocity(noisy, condition, levels, missing, mask)
    two = tiny_model.velocity(noisy, condition, levels, actions, hidden)
    assert torch.equal(one, two)
    assert not torch.equal(one, tiny_model.velocity(noisy, condition, levels, actions, mask))


def test_saved_and_loaded_models_agree(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {"why": "test"})
    loaded = load_vid2world(path)
    assert loaded.cfg == tiny_model.cfg
    assert loaded.card["provenance"] == {"why": "test"}
    stored = {name: value.half().float() for name, value in tiny_model.state_dict().items()}
    tiny_model.load_state_dict(stored)
    torch.testing.assert_close(step_once(loaded).latents, step_once(tiny_model).latents)


def test_truncated_weights_are_refused(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or from another training run"):
        load_vid2world(path)


def test_a_missing_weight_is_named(tiny_model, tmp_path):
    from world_models.checkpoint import load_checkpoint, save_checkpoint

    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    tensors, card = load_checkpoint(path)
    del tensors["unet.conv_in.bias"]
    save_checkpoint(path, tensors, card)
    with pytest.raises(ValueError, match=r"unet\.conv_in\.bias"):
        load_vid2world(path)


def test_another_kind_is_refused(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "kind": "rt1"}))
    with pytest.raises(ValueError, match="expected a vid2world checkpoint.*found 'rt1'"):
        load_vid2world(path)


def test_no_checkpoint_is_said_plainly(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no model\.safetensors"):
        load_vid2world(tmp_path / "model.safetensors")
