"""Numbers worked by hand."""

import numpy as np
import pytest

from v2w_gym.evaluation.checks.fidelity.distance import (
    latent_error,
    mean_estimate,
    measure_distance,
    pixel_error,
    to_psnr,
)
from v2w_gym.evaluation.checks.fidelity.replay import Replay


def replay(latents, frames):
    return Replay(latents, frames, seconds=1.0, process="")


def test_latent_error_is_a_share_of_the_baseline():
    baseline = np.full((2, 3, 1, 2, 2), 2, np.float32)
    found = baseline.copy()
    found[1, 2] += [[1, -1], [1, -1]]
    expected = [[0, 0, 0], [0, 0, 0.5]]
    np.testing.assert_allclose(latent_error(found, baseline), expected)


def test_psnr_of_a_fifth_of_the_range_is_14_decibels_and_100_for_equal_frames():
    black = np.zeros((1, 2, 4, 4, 3), np.uint8)
    found = black.copy()
    found[0, 1] = 51
    np.testing.assert_allclose(pixel_error(found, black), [[0, 0.04]])
    np.testing.assert_allclose(to_psnr(pixel_error(found, black)), [[100, 13.979]], rtol=1e-4)


def test_mean_has_students_interval():
    found = mean_estimate(np.array([1.0, 2.0, 3.0]))
    half = 4.3027 / 3**0.5  # quantile of t with 2 degrees of freedom, standard deviation 1
    assert (found.value, found.low, found.high) == pytest.approx((2, 2 - half, 2 + half), rel=1e-4)


def test_distances_are_listed_by_the_frame_since_the_start():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2, 3, 1, 2, 2)).astype(np.float32)
    frames = rng.integers(0, 256, (2, 4, 2, 2, 3)).astype(np.uint8)
    other_latents, other_frames = latents.copy(), frames.copy()
    other_latents[:, 1] *= 1.5
    other_frames[:, 2] = 255 - frames[:, 2]
    found = measure_distance(replay(other_latents, other_frames), replay(latents, frames))
    errors = {frame: error.value for frame, error in found.latent_error.items()}
    assert errors == pytest.approx({1: 0, 2: 0.5, 3: 0})
    assert found.psnr[1].value == found.psnr[3].value == 100


def test_psnr_of_a_rollout_is_that_of_its_mean_square_error():
    latents = np.ones((2, 2, 1, 1, 1), np.float32)
    frames = np.zeros((2, 3, 2, 2, 3), np.uint8)
    other = frames.copy()
    other[:, 1] = 51
    found = measure_distance(replay(latents, other), replay(latents, frames))
    assert found.rollout_psnr.value == pytest.approx(13.979 + 3.010, rel=1e-3)  # half the error
