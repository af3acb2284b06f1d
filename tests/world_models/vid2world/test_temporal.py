"""Temporal layers, one at a time: a decode step after a prefill is the end of a full window."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from v2w_gym.configs.model import ResamplerConfig
from v2w_gym.configs.published import PUBLISHED, SIZES
from v2w_gym.world_models.vid2world.kv_cache import CacheWriter
from v2w_gym.world_models.vid2world.networks import Networks
from v2w_gym.world_models.vid2world.temporal import DecodeStep, FullWindow

B, T, C, H, W = 2, 4, 8, 3, 5


def frames(seed=0, channels=C):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, channels, H, W, generator=generator) + 0.5


def prefill():
    """Return a window of all frames but the newest, whose cache is written."""
    return FullWindow(T - 1, writer=CacheWriter(B))


def decode_step(prefilled, convs=()):
    cache = prefilled.writer.cache(torch.zeros(B, T - 1, 1, 1, 1)).padded(T - 1)
    return DecodeStep(cache.prepared(torch.full((B,), T - 1), convs))


def test_a_frozen_norm_adds_the_newest_frame_to_the_statistics_of_the_past():
    norm = nn.GroupNorm(2, C)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    window = frames()
    prefilled = prefill()
    prefilled.normalise(norm, window[:, :-1].flatten(0, 1))
    whole = FullWindow(T).normalise(norm, window.flatten(0, 1)).unflatten(0, (B, T))
    newest = decode_step(prefilled)
    both = newest.normalise(norm, torch.cat([window[:, -1], window[:, -1] + 1]))  # two branches
    torch.testing.assert_close(both[:B], whole[:, -1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[B:], both[:B])


@pytest.mark.parametrize("mean", [100.0, 1000.0])
def test_frozen_statistics_survive_a_large_mean(mean):
    norm = nn.GroupNorm(2, C)
    window = mean + frames()
    prefilled = prefill()
    prefilled.normalise(norm, window[:, :-1].flatten(0, 1))
    newest = decode_step(prefilled).normalise(norm, window[:, -1])
    exact = (
        FullWindow(T).normalise(norm.double(), window.double().flatten(0, 1)).unflatten(0, (B, T))
    )
    torch.testing.assert_close(newest, exact[:, -1].float(), rtol=1e-3, atol=2e-3)


def test_a_newest_frame_is_convolved_as_in_a_window():
    conv = nn.Conv3d(C, C, (3, 1, 1))
    window = frames()
    whole = FullWindow(T).convolve(conv, window.flatten(0, 1), after=0).unflatten(0, (B, T))
    prefilled = prefill()
    prefilled.convolve(conv, window[:, :-1].flatten(0, 1), after=0)
    newest = decode_step(prefilled, [conv])
    alone = newest.convolve(conv, window[:, -1], after=0)
    torch.testing.assert_close(alone, whole[:, -1], rtol=1e-4, atol=1e-5)


def test_a_newest_frame_attends_as_in_a_window():
    heads = [
        frames(seed, 6).permute(0, 3, 4, 1, 2).flatten(0, 2).unflatten(2, (2, 3)).transpose(1, 2)
        for seed in range(3)
    ]  # (B hw, heads, T, c) each
    whole = FullWindow(T).attend(*heads, causal=True)
    prefilled = prefill()
    prefilled.attend(*(part[:, :, :-1] for part in heads), causal=True)
    alone = decode_step(prefilled).attend(*(part[:, :, -1:] for part in heads), causal=True)
    torch.testing.assert_close(alone, whole[:, :, -1:], rtol=1e-4, atol=1e-5)


def test_attention_reaches_no_further_than_it_may():
    query, key, value = (torch.randn(1, 1, 5, 4) for _ in range(3))
    near = FullWindow(5, reach=2).attend(query, key, value, causal=True)
    last = FullWindow(2).attend(query[:, :, -2:], key[:, :, -2:], value[:, :, -2:], causal=True)
    torch.testing.assert_close(near[:, :, -1], last[:, :, -1])


@pytest.fixture
def dealing():
    """Networks in which a full window of three frames is dealt 16 image tokens each."""
    tiny = SIZES["tiny"].of(PUBLISHED["google_robot"])
    resampler = ResamplerConfig(
        channels=32, layers=1, heads=1, hidden=64, tokens=48, out_channels=32
    )
    context = replace(tiny.context, resampler=resampler)
    return Networks(replace(tiny, window=3, context=context))


def kept_context(networks):
    key = torch.arange(48.0).view(1, 1, 48, 1)
    text = torch.zeros(1, 1, 2, 1)
    return ((text, text, key, key),)


def first_tokens(keys):
    return keys[0].image_key[:, 0, 0].tolist()


def test_history_and_newest_frame_are_dealt_the_tokens_they_have_in_a_full_window(dealing):
    kept = kept_context(dealing)
    whole = dealing.context_keys(kept, 1, 3, slice(3))
    history = dealing.context_keys(kept, 1, 3, slice(2))
    newest = dealing.context_keys(kept, 2, 3, slice(2, 3))
    assert first_tokens(whole) == [0, 16, 32] and first_tokens(history) == [0, 16]
    assert first_tokens(newest) == [32, 32]  # in two branches
    assert whole[0].image_key.shape[1] == 16
    growing = dealing.context_keys(kept, 1, 2, slice(1, 2))
    assert growing[0].image_key.shape == (1, 48, 1)


def test_norms_per_frame_are_dealt_every_token_in_any_window(dealing):
    unet = replace(dealing.cfg.unet, temporal_norm="per_frame")
    pinned = Networks(replace(dealing.cfg, unet=unet))
    assert pinned.context_keys(kept_context(pinned), 1, 3, slice(3))[0].image_key.shape[1] == 48
