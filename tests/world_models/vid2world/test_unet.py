from dataclasses import replace

import pytest
import torch

from world_models.vid2world.blocks import CausalConv, TemporalNorm

B, T, C = 2, 5, 4


def inputs():
    generator = torch.Generator().manual_seed(1)
    return {
        "noisy": torch.randn(B, T, C, 8, 8, generator=generator),
        "condition": torch.randn(B, C, 8, 8, generator=generator),
        "noise_levels": torch.randint(0, 1000, (B, T), generator=generator),
        "actions": torch.randn(B, T, 13, generator=generator),
        "action_mask": torch.ones(B, T, dtype=torch.bool),
    }


def changed_frames(unet, **changes):
    """Return which frames' outputs move when some inputs change."""
    before, after = unet(**inputs()), unet(**{**inputs(), **changes})
    return ((before - after).abs().amax((0, 2, 3, 4)) > 0).tolist()


@pytest.mark.parametrize("t", [0, 2, 4])
@pytest.mark.parametrize("what", ["noisy", "noise_levels", "actions", "action_mask"])
def test_a_frame_never_moves_an_earlier_one(tiny_model, what, t):
    changed = inputs()[what].clone()
    changed[:, t] = 999 - changed[:, t] if what == "noise_levels" else -changed[:, t].float()
    if what == "action_mask":
        changed = inputs()[what].clone()
        changed[:, t] = False
    moved = changed_frames(tiny_model.unet, **{what: changed.to(inputs()[what].dtype)})
    assert moved == [frame >= t for frame in range(T)]


def test_the_first_frame_reaches_every_frame(tiny_model):
    assert changed_frames(tiny_model.unet, condition=torch.zeros(B, C, 8, 8)) == [True] * T


def test_pooled_norm_is_what_leaks(tiny_config, make_model):
    pooled = make_model(
        replace(tiny_config, unet=replace(tiny_config.unet, temporal_norm="pooled"))
    )
    changed = inputs()["noisy"].clone()
    changed[:, -1] += 1
    assert changed_frames(pooled.unet, noisy=changed) == [True] * T


def test_a_hidden_action_has_no_effect(tiny_model):
    hidden = torch.zeros(B, T, dtype=torch.bool)
    one = tiny_model.unet(**{**inputs(), "action_mask": hidden})
    two = tiny_model.unet(**{**inputs(), "action_mask": hidden, "actions": torch.randn(B, T, 13)})
    assert torch.equal(one, two)


def test_a_shorter_window_is_the_beginning_of_a_longer_one(tiny_model):
    whole = tiny_model.unet(**inputs())
    short = {k: v if k == "condition" else v[:, :3] for k, v in inputs().items()}
    torch.testing.assert_close(tiny_model.unet(**short), whole[:, :3])


def test_rollouts_of_a_batch_do_not_mix(tiny_model):
    whole = tiny_model.unet(**inputs())
    second = tiny_model.unet(**{k: v[1:] for k, v in inputs().items()})
    torch.testing.assert_close(second, whole[1:], rtol=1e-4, atol=1e-5)


def test_causal_convolution_by_hand():
    conv = CausalConv(1)
    conv.conv.weight.data = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1)
    conv.conv.bias.data.zero_()
    frames = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    assert conv(frames, 3).flatten().tolist() == [100.0, 210.0, 321.0]


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="'per_frame' or 'pooled', found 'layer'"):
        TemporalNorm(1, 4, "layer")


def test_a_fresh_network_predicts_nothing(tiny_config):
    from world_models.vid2world.unet import UNet

    assert UNet(tiny_config.unet, C, 13)(**inputs()).abs().max() == 0
