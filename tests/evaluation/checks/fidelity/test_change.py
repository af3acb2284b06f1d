"""Distances worked by hand; success paired by rollout, and what is left out."""

import math

import numpy as np
import pandas as pd
import pytest

from v2w_gym.evaluation.checks.fidelity.change import (
    ALL,
    compare_frames,
    compare_success,
    pixel_error,
    psnr_by_frame,
    to_psnr,
)


def test_psnr_of_a_fifth_of_the_range_is_14_decibels_and_100_for_equal_frames():
    black = np.zeros((1, 3, 4, 4, 3), np.uint8)
    found = black.copy()
    found[0, 1] = 51
    np.testing.assert_allclose(pixel_error(found, black), [[0.04, 0]])
    np.testing.assert_allclose(to_psnr(pixel_error(found, black)), [[13.979, 100]], rtol=1e-4)


def test_psnr_is_listed_by_the_frame_since_the_start():
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 2, 2, 3)).astype(np.uint8)
    other = frames.copy()
    other[:, 2] = 255 - frames[:, 2]
    found = psnr_by_frame(other, frames)
    assert list(found) == [1, 2, 3]
    assert found[1].value == found[3].value == 100 > found[2].value


def test_psnr_of_a_rollout_is_that_of_its_mean_square_error():
    frames = np.zeros((2, 3, 2, 2, 3), np.uint8)
    other = frames.copy()
    other[:, 1] = 51
    found = compare_frames(other, frames, other)
    assert found["PSNR"].value == pytest.approx(13.979 + 3.010, rel=1e-3)  # half the error
    assert found["PSNR against the recording"].value == 100
    assert found["change"].value == pytest.approx(100 - found["PSNR"].value)
    assert compare_frames(frames, frames, None) == {"PSNR": None}


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
    assert (of_a["policy"], of_b["policy"], of_all["policy"]) == ("a", "b", ALL)
    assert (of_a["n"], of_a["abstained"], of_a["gained"], of_a["lost"]) == (3, 1, 1, 1)
    assert (of_b["n"], of_b["abstained"], of_b["gained"], of_b["lost"]) == (2, 0, 1, 0)
    assert (of_all["n"], of_all["gained"], of_all["lost"]) == (5, 2, 1)
    assert of_all["baseline"].value == pytest.approx(2 / 5)
    assert of_all["success"].value == pytest.approx(3 / 5)
    assert of_all["change"].value == pytest.approx(1 / 5)
    assert of_all["p"] == 1


def test_a_policy_on_which_the_judge_always_abstains_has_no_rate():
    (of_a, _) = compare_success(rows("a", [None]), rows("a", [True]))
    assert (of_a["n"], of_a["abstained"]) == (0, 1)
    assert math.isnan(of_a["change"].value)
