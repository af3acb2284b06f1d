"""Distances worked by hand; success paired by rollout, and what is left out."""

import math

import numpy as np
import pandas as pd
import pytest

from v2w_gym.evaluation.checks.fidelity.change import (
    ALL,
    compare_success,
    latent_error,
    measure_distance,
    pixel_error,
    to_psnr,
)
from v2w_gym.evaluation.checks.fidelity.imagined import Imagined


def imagined(latents, frames):
    return Imagined(latents, frames, seconds=1.0, process="")


def test_latent_error_is_a_share_of_the_baseline():
    baseline = np.full((2, 3, 1, 2, 2), 2, np.float32)
    found = baseline.copy()
    found[1, 2] += [[1, -1], [1, -1]]
    expected = [[0, 0, 0], [0, 0, 0.5]]
    np.testing.assert_allclose(latent_error(found, baseline), expected)


def test_psnr_of_a_fifth_of_the_range_is_14_decibels_and_100_for_equal_frames():
    black = np.zeros((1, 3, 4, 4, 3), np.uint8)
    found = black.copy()
    found[0, 1] = 51
    np.testing.assert_allclose(pixel_error(found, black), [[0.04, 0]])
    np.testing.assert_allclose(to_psnr(pixel_error(found, black)), [[13.979, 100]], rtol=1e-4)


def test_distances_are_listed_by_the_frame_since_the_start():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(2, 3, 1, 2, 2)).astype(np.float32)
    frames = rng.integers(0, 256, (2, 4, 2, 2, 3)).astype(np.uint8)
    other_latents, other_frames = latents.copy(), frames.copy()
    other_latents[:, 1] *= 1.5
    other_frames[:, 2] = 255 - frames[:, 2]
    found = measure_distance(imagined(other_latents, other_frames), imagined(latents, frames))
    errors = {frame: error.value for frame, error in found.latent_error.items()}
    assert errors == pytest.approx({1: 0, 2: 0.5, 3: 0})
    assert found.psnr[1].value == found.psnr[3].value == 100


def test_psnr_of_a_rollout_is_that_of_its_mean_square_error():
    latents = np.ones((2, 2, 1, 1, 1), np.float32)
    frames = np.zeros((2, 3, 2, 2, 3), np.uint8)
    other = frames.copy()
    other[:, 1] = 51
    found = measure_distance(imagined(latents, other), imagined(latents, frames))
    assert found.rollout_psnr.value == pytest.approx(13.979 + 3.010, rel=1e-3)  # half the error


def rows(policy, outcomes, first=0):
    return pd.DataFrame(
        {
            "policy": policy,
            "task": "open_drawer",
            "start": range(first, first + len(outcomes)),
            "seed": 0,
            "success": pd.Series(outcomes, dtype=object),
        }
    )


def test_rollouts_are_paired_by_policy_and_start():
    baseline = pd.concat([rows("a", [True, True, False, None]), rows("b", [False, False])])
    found = pd.concat([rows("b", [True, False]), rows("a", [False, True, True, True])])
    of_a, of_b, of_all = compare_success(found, baseline)
    assert (of_a.policy, of_b.policy, of_all.policy) == ("a", "b", ALL)
    assert (of_a.n, of_a.abstained, of_a.gained, of_a.lost) == (3, 1, 1, 1)
    assert (of_b.n, of_b.abstained, of_b.gained, of_b.lost) == (2, 0, 1, 0)
    assert (of_all.n, of_all.gained, of_all.lost) == (5, 2, 1)
    assert of_all.baseline.value == pytest.approx(2 / 5)
    assert of_all.success.value == pytest.approx(3 / 5)
    assert of_all.change.value == pytest.approx(1 / 5)
    assert of_all.p_value == 1


def test_a_policy_on_which_the_judge_always_abstains_has_no_rate():
    (of_a, _) = compare_success(rows("a", [None]), rows("a", [True]))
    assert (of_a.n, of_a.abstained) == (0, 1)
    assert math.isnan(of_a.change.value)
