"""Operations and memory of one frame at the published size, counted without running it."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from v2w_gym.configs.published import PUBLISHED
from v2w_gym.world_models.vid2world.kv_cache import CacheWriter
from v2w_gym.world_models.vid2world.layers import Context
from v2w_gym.world_models.vid2world.temporal import FullWindow
from v2w_gym.world_models.vid2world.unet import Conditioning, DecodeInputs, UNet

LATENT = (4, 40, 64)
GIGA = 1e9


@pytest.fixture(scope="module", autouse=True)
def _on_the_meta_device():
    with torch.device("meta"), torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def network(_on_the_meta_device):
    cfg = replace(PUBLISHED["google_robot"].unet, temporal_norm="per_frame")
    return UNet(cfg, LATENT[0], 13).eval()


def conditioning(network, rows, frames):
    context = Context(torch.empty(rows, 77, 1024), torch.empty(rows, 256, 1024))
    return Conditioning(
        frame=torch.empty(1, 1, *LATENT),
        actions=torch.empty(rows, frames, 13),
        action_mask=torch.ones(rows, frames, dtype=torch.bool),
        rate=torch.full((rows,), 3),
        context=network.context_keys(context),
    )


def levels(rows, frames):
    return torch.zeros(rows, frames, dtype=torch.long)


def prefill(network, frames):
    window = FullWindow(frames, writer=CacheWriter(1))
    noisy = torch.empty(1, frames, *LATENT)
    velocity = network(noisy, levels(1, frames), conditioning(network, 1, frames), window)
    return window.writer.cache(velocity).padded(frames)


def giga_flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / GIGA


def test_a_guided_step_takes_1410_gflop_where_a_whole_window_takes_25_000(network):
    """Both branches of one frame; the history taps, K/V and shared layers are not done again."""
    lengths = torch.full((1,), 15, device="cpu")
    cache = prefill(network, 15).prepared(lengths, network.temporal_convs)
    pair = conditioning(network, 2, 1)
    shifts = [shift[:, 0] for shift in network.shifts(network.embed(levels(2, 1), pair))]
    noisy = torch.empty(1, 1, *LATENT)
    inputs = DecodeInputs(noisy, pair.frame, tuple(shifts), pair.context, cache)
    newest = giga_flops(lambda: network.decode_step(inputs))
    whole = conditioning(network, 1, 16)
    noisy = torch.empty(1, 16, *LATENT)
    window = giga_flops(lambda: network(noisy, levels(1, 16), whole))
    assert newest == pytest.approx(1410.2, abs=0.1)
    assert 2 * window == pytest.approx(25_276, abs=1)
    assert 2 * window / newest > 17.9


def test_a_frame_is_cached_in_68_megabytes_of_bfloat16(network):
    cache = prefill(network, 15)
    per_frame = sum(x.numel() for x in (*cache.keys, *cache.values)) / 15
    assert 2 * per_frame / 1e6 == pytest.approx(68.24, abs=0.01)
    assert 2 * sum(x.numel() for x in cache.conv_inputs) / 1e6 == pytest.approx(120.42, abs=0.01)
