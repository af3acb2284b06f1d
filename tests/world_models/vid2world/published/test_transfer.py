"""Causal kernels against numbers worked by hand and the claims of the paper's appendix."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from v2w_gym.world_models.vid2world.published.transfer import MODES, causal_kernel, extrapolation

SIZES = [(m, p) for m in (1, 2, 3) for p in range(1, 2 * m + 2)]


def kernel_of(*taps: float) -> torch.Tensor:
    return torch.tensor(taps, dtype=torch.float64)[None, None]


def random_kernel(radius: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(radius)
    return torch.randn(4, 3, 2 * radius + 1, generator=generator, dtype=torch.float64)


def centred(kernel: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
    """What the old kernel makes of a feature (T,) in all its inputs, m frames before the last."""
    radius = kernel.shape[2] // 2
    return (kernel.sum(1) * feature[-1 - 2 * radius :]).sum(-1)


def causal(kernel: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
    """What the new kernel makes of it at the same time."""
    radius = kernel.shape[2] // 2
    return (kernel.sum(1) * feature[-1 - 3 * radius : -radius]).sum(-1)


@pytest.mark.parametrize(
    ("mode", "order", "taps", "expected"),
    [
        ("shift", 2, (1, 2, 4), (1, 2, 4)),
        ("masked", 2, (1, 2, 4), (0, 1, 2)),
        ("extrapolative", 1, (1, 2, 4), (0, 1, 6)),
        ("extrapolative", 2, (1, 2, 4), (0, -3, 10)),
        ("extrapolative", 3, (3, 6, 9), (0 - 6, 3 + 3, 6 + 12)),
        ("masked", 2, (1, 2, 4, 8, 16), (0, 0, 1, 2, 4)),
        ("extrapolative", 1, (1, 2, 4, 8, 16), (0, 0, 1, 2, 28)),
        ("extrapolative", 2, (1, 2, 4, 8, 16), (0, 0, 1, 2 - 8 - 32, 4 + 16 + 48)),
    ],
)
def test_numbers_worked_by_hand(mode, order, taps, expected):
    found = causal_kernel(kernel_of(*taps), mode, order)
    torch.testing.assert_close(found, kernel_of(*expected))


def test_three_frames_are_extended_by_their_regression_line():
    """z = 5, 2, 2, newest first: mean 3, slope 1.5 per frame, so 6 next and 7.5 after it."""
    torch.testing.assert_close(extrapolation(2, 3) @ [5, 2, 2], np.array([6, 7.5]))


@pytest.mark.parametrize(("radius", "order"), SIZES)
def test_coefficients_are_those_of_a_least_squares_fit(radius, order):
    inputs = np.random.default_rng(0).normal(size=order)  # newest first
    degree = min(order - 1, 1)
    line = np.polynomial.Polynomial.fit(-np.arange(order), inputs, degree)
    expected = line(np.arange(1, radius + 1))
    np.testing.assert_allclose(extrapolation(radius, order) @ inputs, expected)


@pytest.mark.parametrize(("radius", "order"), SIZES)
def test_extrapolation_is_exact_on_what_its_line_describes(radius, order):
    kernel, times = random_kernel(radius), torch.arange(12, dtype=torch.float64)
    feature = 3 - 0.7 * times if order > 1 else torch.full_like(times, 3)
    found = causal(causal_kernel(kernel, "extrapolative", order), feature)
    torch.testing.assert_close(found, centred(kernel, feature))


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_shift_and_masking_miss_a_moving_feature_by_as_much_as_the_paper_says(radius):
    kernel, times, alpha = random_kernel(radius), torch.arange(12, dtype=torch.float64), 0.7
    total = kernel.sum(1)
    wanted = centred(kernel, alpha * times)
    shifted = causal(causal_kernel(kernel, "shift"), alpha * times)
    torch.testing.assert_close(wanted - shifted, alpha * radius * total.sum(1))
    cut = causal(causal_kernel(kernel, "masked"), alpha * times)
    future = alpha * times[-radius:]
    torch.testing.assert_close(wanted - cut, (total[:, radius + 1 :] * future).sum(1))


@pytest.mark.parametrize("frequency", [0.05, 0.3, 1.0])
@pytest.mark.parametrize(("radius", "order"), [(m, p) for m, p in SIZES if p > 1])
def test_the_error_on_smooth_features_is_within_proposition_1(radius, order, frequency):
    """sin(f t) is f**2-smooth. An order of 1 fits no slope, and no such bound holds for it."""
    kernel = random_kernel(radius)
    future = kernel.sum(1)[:, radius + 1 :].abs()
    i = torch.arange(1, radius + 1)
    factor = i**2 + 6 * order**2 / (order + 1) * i + (order - 1) * (order - 2) / 6
    bound = frequency**2 / 2 * (future * factor).sum(1)
    for phase in np.linspace(0, 6, 7):
        feature = torch.sin(frequency * torch.arange(12, dtype=torch.float64) + phase)
        found = causal(causal_kernel(kernel, "extrapolative", order), feature)
        assert ((found - centred(kernel, feature)).abs() <= bound).all()


@pytest.mark.parametrize("mode", MODES)
def test_any_axis_will_do_and_the_original_is_left_alone(mode):
    kernel = random_kernel(1).float()[..., None, None].repeat(1, 1, 1, 5, 1)
    kept = kernel.clone()
    along_last = causal_kernel(kernel.movedim(2, 4), mode, axis=4)
    assert torch.equal(along_last.movedim(4, 2), causal_kernel(kernel, mode))
    assert torch.equal(kernel, kept)


@pytest.mark.parametrize("mode", MODES)
def test_a_single_tap_is_copied(mode):
    kernel = torch.randn(4, 3, 1)
    copy = causal_kernel(kernel, mode)
    assert torch.equal(copy, kernel)
    assert copy.data_ptr() != kernel.data_ptr()


@pytest.mark.parametrize(
    ("taps", "settings", "message"),
    [
        (3, {"mode": "maskd"}, "did you mean 'masked'?"),
        (4, {"mode": "shift"}, "expected an odd number of taps along axis 2, found 4"),
        (3, {"mode": "extrapolative", "order": 4}, "expected an order from 1 to 3 .* found 4"),
        (5, {"mode": "extrapolative", "order": 0}, "expected an order from 1 to 5 .* found 0"),
    ],
)
def test_what_cannot_be_transferred_is_refused(taps, settings, message):
    with pytest.raises(ValueError, match=message):
        causal_kernel(torch.zeros(2, 2, taps), **settings)


@pytest.mark.parametrize("mode", ["masked", "extrapolative"])
def test_the_published_loader_makes_the_same_bits(mode):
    folder = os.environ.get("V2W_PARITY_DIR")
    if folder is None:
        pytest.skip("recorded reference arrays: set V2W_PARITY_DIR to their folder")
    tensors = load_file(Path(folder) / "weight_transfer.safetensors")
    card = json.loads((Path(folder) / "weight_transfer.json").read_text())
    weights = {old: new for old, new in card["rename_map"].items() if new.endswith(".weight")}
    assert len(weights) == card["n_renamed"] / 2
    for old, new in weights.items():
        found = causal_kernel(tensors[f"state/{old}"], mode)
        assert torch.equal(found, tensors[f"out/{mode}/{new}"])
