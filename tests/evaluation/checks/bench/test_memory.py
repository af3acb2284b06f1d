"""What a rollout remembers, from the network's settings alone."""

from dataclasses import replace

import pytest
import torch

from v2w_gym.configs.checks import BENCH_SIZES
from v2w_gym.configs.model import UNetConfig
from v2w_gym.evaluation.checks.bench.arms import full_window
from v2w_gym.evaluation.checks.bench.measure import measure_memory
from v2w_gym.evaluation.checks.bench.memory import (
    bytes_of_context,
    bytes_of_convolutions,
    bytes_per_frame,
)
from v2w_gym.evaluation.checks.bench.models import in_precision, with_semantics


def test_a_network_worked_by_hand() -> None:
    cfg = UNetConfig(
        channels=8, channel_multipliers=(1, 2), blocks=1, attention_sizes=(2,), head_channels=4
    )
    # Residual blocks: 3 of 8 channels at 16 pixels, 5 of 16 channels at 4 pixels.
    assert bytes_of_convolutions(cfg, 16, 4) == 4 * 2 * 4 * (3 * 8 * 16 + 5 * 16 * 4)
    # Temporal transformers: the initial one, and all but the last of the middle at 4 pixels.
    assert bytes_per_frame(cfg, 16, 4) == 4 * 2 * 2 * (8 * 16 + 4 * 16 * 4)
    wide = replace(cfg, initial_attention_heads=3)
    assert bytes_per_frame(wide, 16, 4) == 4 * 2 * 2 * (12 * 16 + 4 * 16 * 4)
    none = replace(cfg, initial_attention=False)
    assert bytes_per_frame(none, 16, 4) == 4 * 2 * 2 * (4 * 16 * 4)


def test_the_published_network_in_half_precision() -> None:
    """68.2 MB for each frame of the history, 120 MB of convolutions, 333 tokens of context."""
    full = BENCH_SIZES["full"]
    assert bytes_per_frame(full.unet, 40 * 64, 2) / 1e6 == pytest.approx(68.2, abs=0.05)
    assert bytes_of_convolutions(full.unet, 40 * 64, 2) / 1e6 == pytest.approx(120.4, abs=0.05)
    widths = 5 * 320 + 5 * 640 + 6 * 1280
    assert bytes_of_context(full, 2) == widths * 333 * 2 * 2


@pytest.mark.parametrize("name", ["rolling", "window", "frozen"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_measured_is_what_is_derived(tiny, name, precision) -> None:
    model = with_semantics(in_precision(tiny, precision), name)
    (found,) = measure_memory({name: model})
    assert found.semantics == name
    assert found.ratio == pytest.approx(1, abs=0.1)
    assert found.bytes == full_window(model, 1)[0].nbytes
    assert 2 * found.bytes == full_window(model, 2)[0].nbytes


def test_steps_without_a_memory_have_no_formula(tiny) -> None:
    assert not list(measure_memory({"pooled": with_semantics(tiny, "pooled")}))
