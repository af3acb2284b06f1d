"""Bytes of a rollout: measured, and computed from the network's settings alone."""

import pytest

from v2w_gym.configs.checks import BENCH_SIZES
from v2w_gym.configs.model import UNetConfig, WorldModelConfig
from v2w_gym.evaluation.checks.bench.models import full_window, with_semantics


def derived_bytes(cfg: WorldModelConfig, pixels: int, value_bytes: int) -> tuple[int, int, int]:
    """Return the bytes of one frame's keys and values, of convolutions, and of the context."""
    unet, blocks = cfg.unet, []  # channels, pixels and whether transformers follow
    for level, multiplier in enumerate(unet.channel_multipliers):
        width, size = unet.channels * multiplier, pixels // 4**level
        blocks += [(width, size, 2**level in unet.attention_sizes)] * (2 * unet.blocks + 1)
    blocks += [(width, size, True), (width, size, False)]  # in the middle
    initial = unet.initial_attention_heads * unet.head_channels or unet.channels
    read = sum(width * size for width, size, attends in blocks if attends)
    read += initial * pixels if unet.initial_attention else 0
    tokens = cfg.context.text_tokens + cfg.context.resampler.tokens if cfg.context else 0
    return (
        read * 2 * 2 * value_bytes,  # a key and a value in two attentions
        sum(width * size for width, size, _ in blocks) * 4 * 2 * value_bytes,  # 4 x 2 frames
        sum(width for width, _, attends in blocks if attends) * tokens * 2 * value_bytes,
    )


def test_the_derivation_on_a_network_worked_by_hand() -> None:
    unet = UNetConfig(
        channels=8, channel_multipliers=(1, 2), blocks=1, attention_sizes=(2,), head_channels=4
    )
    per_frame, convolutions, _ = derived_bytes(WorldModelConfig(unet=unet), 16, 4)
    # Residual blocks: 3 of 8 channels at 16 pixels, 5 of 16 channels at 4 pixels.
    assert convolutions == 4 * 2 * 4 * (3 * 8 * 16 + 5 * 16 * 4)
    # Temporal transformers: the initial one, and all but the last of the middle at 4 pixels.
    assert per_frame == 4 * 2 * 2 * (8 * 16 + 4 * 16 * 4)


@pytest.mark.parametrize("name", ["rolling", "window", "frozen"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rollout_keeps_what_is_derived(tiny, name, precision) -> None:
    model = with_semantics(tiny.with_dtype(precision), name)
    state, known = full_window(model, 1)[0], model.window - 1
    assert 2 * state.nbytes == full_window(model, 2)[0].nbytes
    _, channels, height, width = state.condition.shape
    number = model.precision.itemsize
    per_frame, convolutions, context = derived_bytes(model.cfg, height * width, number)
    single = (model.window + 1) * channels * height * width + model.window * 13 + 2 * known
    assert state.nbytes == pytest.approx(
        known * per_frame + convolutions + context + 4 * single, rel=0.1
    )


def test_the_published_network_in_half_precision() -> None:
    """68.2 MB for each frame of the history, 120 MB of convolutions, 333 tokens of context."""
    per_frame, convolutions, context = derived_bytes(BENCH_SIZES["full"], 40 * 64, 2)
    assert per_frame / 1e6 == pytest.approx(68.2, abs=0.05)
    assert convolutions / 1e6 == pytest.approx(120.4, abs=0.05)
    assert context == (5 * 320 + 5 * 640 + 6 * 1280) * 333 * 2 * 2
