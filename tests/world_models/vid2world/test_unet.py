from dataclasses import replace

import pytest
import torch

from v2w_gym.world_models.vid2world.layers import FUSED_FROM, ActionEmbedding, Context, attend
from v2w_gym.world_models.vid2world.temporal import FullWindow, TemporalConv
from v2w_gym.world_models.vid2world.unet import Conditioning, UNet

B, T, C = 2, 5, 4


def inputs():
    generator = torch.Generator().manual_seed(1)
    return {
        "noisy": torch.randn(B, T, C, 8, 8, generator=generator),
        "frame": torch.randn(B, 1, C, 8, 8, generator=generator),
        "noise_levels": torch.randint(0, 1000, (B, T), generator=generator),
        "actions": torch.randn(B, T, 13, generator=generator),
        "action_mask": torch.ones(B, T, dtype=torch.bool),
    }


def run(unet, noisy, noise_levels, **conditioning):
    if "context" in conditioning:
        conditioning["context"] = unet.context_keys(flat(conditioning["context"]))
    return unet(noisy, noise_levels, Conditioning(**conditioning))


def flat(context):
    """Take the image tokens (B, F, M, D) of a context apart into B F sets."""
    return Context(context.text, context.image.flatten(0, 1))


def changed_frames(unet, **changes):
    """Return which frames' outputs move when some inputs change."""
    before, after = run(unet, **inputs()), run(unet, **{**inputs(), **changes})
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
    assert changed_frames(tiny_model.unet, frame=torch.zeros(B, 1, C, 8, 8)) == [True] * T


def test_pooled_norm_is_what_leaks(tiny_config, make_model):
    pooled = make_model(
        replace(tiny_config, unet=replace(tiny_config.unet, temporal_norm="pooled"))
    )
    changed = inputs()["noisy"].clone()
    changed[:, -1] += 1
    assert changed_frames(pooled.unet, noisy=changed) == [True] * T


def test_a_dropped_action_has_no_effect(tiny_model):
    hidden = torch.zeros(B, T, dtype=torch.bool)
    one = run(tiny_model.unet, **{**inputs(), "action_mask": hidden})
    two = run(
        tiny_model.unet, **{**inputs(), "action_mask": hidden, "actions": torch.randn(B, T, 13)}
    )
    assert torch.equal(one, two)


def test_a_shorter_window_is_the_beginning_of_a_longer_one(tiny_model):
    whole = run(tiny_model.unet, **inputs())
    short = {k: v if k == "frame" else v[:, :3] for k, v in inputs().items()}
    torch.testing.assert_close(run(tiny_model.unet, **short), whole[:, :3])


def test_rollouts_of_a_batch_do_not_mix(tiny_model):
    whole = run(tiny_model.unet, **inputs())
    second = run(tiny_model.unet, **{k: v[1:] for k, v in inputs().items()})
    torch.testing.assert_close(second, whole[1:], rtol=1e-4, atol=1e-5)


def test_causal_convolution_by_hand():
    conv = TemporalConv(1, causal=True)
    conv.conv.weight.data = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1)
    conv.conv.bias.data.zero_()
    frames = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    assert conv(frames, FullWindow(3)).flatten().tolist() == [100.0, 210.0, 321.0]


def test_centred_convolution_by_hand():
    conv = TemporalConv(1, causal=False)
    conv.conv.weight.data = torch.tensor([1.0, 10.0, 100.0]).view(1, 1, 3, 1, 1)
    conv.conv.bias.data.zero_()
    frames = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    assert conv(frames, FullWindow(3)).flatten().tolist() == [210.0, 321.0, 32.0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"temporal_norm": "layer"},
            r"temporal_norm: expected one of \['per_frame', 'pooled'\], found 'layer'",
        ),
        ({"action_embedding": "lstm"}, "action_embedding: expected one of .* found 'lstm'"),
        ({"output_conv": "causal"}, "output_conv: expected one of .* did you mean 'height_causal'"),
    ],
)
def test_unknown_choices_are_refused(tiny_config, setting, message):
    with pytest.raises(ValueError, match=message):
        UNet(replace(tiny_config.unet, **setting), C, 13)


def test_a_fresh_network_predicts_nothing(tiny_config):
    assert run(UNet(tiny_config.unet, C, 13), **inputs()).abs().max() == 0


def test_a_network_that_is_not_causal_looks_ahead(tiny_config, make_model):
    ahead = make_model(replace(tiny_config, unet=replace(tiny_config.unet, causal=False)))
    changed = inputs()["noisy"].clone()
    changed[:, -1] += 1
    assert changed_frames(ahead.unet, noisy=changed) == [True] * T


def context(frames, seed=2):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(B, 3, 6, generator=generator)
    return Context(text, torch.randn(B, frames, 4, 6, generator=generator))


@pytest.fixture
def reading(tiny_config, make_model):
    """A network that reads a context and has a rate embedding."""
    unet = replace(tiny_config.unet, context_channels=6, rate_embedding=True)
    return make_model(replace(tiny_config, unet=unet)).unet


def test_a_context_for_all_frames_is_the_same_one_for_each(reading):
    rate = torch.full((B,), 3)
    one = context(1)
    each = Context(one.text, one.image.expand(-1, T, -1, -1))
    shared = run(reading, **inputs(), rate=rate, context=one)
    torch.testing.assert_close(run(reading, **inputs(), rate=rate, context=each), shared)


def test_a_frame_reads_its_own_tokens_only(reading):
    rate, own = torch.full((B,), 3), context(T)
    changed = own.image.clone()
    changed[:, 3] += 1
    before = run(reading, **inputs(), rate=rate, context=own)
    after = run(reading, **inputs(), rate=rate, context=Context(own.text, changed))
    moved = (before - after).abs().amax((0, 2, 3, 4)) > 0
    assert moved.tolist() == [False, False, False, True, True]


def test_rate_and_prompt_reach_every_frame(reading):
    plain = run(reading, **inputs(), rate=torch.full((B,), 3), context=context(1))
    faster = run(reading, **inputs(), rate=torch.full((B,), 24), context=context(1))
    other = Context(torch.zeros(B, 3, 6), context(1).image)
    prompted = run(reading, **inputs(), rate=torch.full((B,), 3), context=other)
    assert ((plain - faster).abs().amax((0, 2, 3, 4)) > 0).all()
    assert ((plain - prompted).abs().amax((0, 2, 3, 4)) > 0).all()


def test_fused_attention_is_the_same_attention():
    generator = torch.Generator().manual_seed(3)
    query, key, value = torch.randn(3, 1, 2, 256, 8, generator=generator)
    fused = attend(query, key, value)  # 256 * 256 scores
    assert query.shape[-2] * key.shape[-2] >= FUSED_FROM
    scores = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
    torch.testing.assert_close(fused, scores @ value)


def test_an_action_table_adds_up_what_is_on():
    table = ActionEmbedding("table", 3, 4, 8)
    on = torch.tensor([1.0, 0.0, 1.0])
    expected = table.table.weight[0] + table.table.weight[2]
    torch.testing.assert_close(table.table(on), expected)
