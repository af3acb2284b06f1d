"""What every world model must do, whatever it is made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.robots import STANDIN_SAWYER
from world_models.base import FrameNoise, join_states
from world_models.copy_last import CopyLast
from world_models.frames import to_uint8


@pytest.fixture(params=["copy_last", "vid2world", "vid2world_pooled_guided"])
def model(request, tiny_config, make_model):
    if request.param == "copy_last":
        return CopyLast(STANDIN_SAWYER, window=4)
    if request.param == "vid2world":
        return make_model(tiny_config)
    sampler = replace(
        tiny_config.sampler, guidance_scale=2.0, guidance_rescale=0.7, eta=1.0, steps=3
    )
    unet = replace(tiny_config.unet, temporal_norm="pooled")
    return make_model(replace(tiny_config, sampler=sampler, unet=unet))


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)


def act(model, rows, scale=1.0):
    motions = np.random.default_rng(1).uniform(-0.05, 0.05, (8, 3)) * scale
    return np.stack([model.robot.make_action(world_vector=motions[row]) for row in rows])


def noise(seeds, frame):
    return FrameNoise(tuple(seeds), (0,) * len(seeds), (frame,) * len(seeds))


def run(model, frames, seeds, steps=6):
    state = model.start(frames)
    for t in range(steps):
        state = model.step(state, act(model, seeds), noise(seeds, t + 1))
    return state


def test_start_keeps_the_frame(model, frames):
    state = model.start(frames)
    assert np.array_equal(to_uint8(state.frame), frames)
    assert state.history == 1 and len(state) == 3


def test_history_never_exceeds_the_window(model, frames):
    state = run(model, frames, [0, 1, 2], steps=7)
    assert state.history == model.window == state.actions.shape[1]


def test_frames_stay_in_range(model, frames):
    frame = run(model, frames, [0, 1, 2]).frame
    assert frame.shape == (3, 3, 64, 64) and frame.dtype == torch.float32
    assert frame.abs().max() <= 1 and frame.isfinite().all()


def test_a_rollout_is_the_same_alone_and_in_a_batch(model, frames):
    together = to_uint8(run(model, frames, [0, 1, 2]).frame).astype(int)
    for i in range(3):
        alone = to_uint8(run(model, frames[i : i + 1], [i]).frame).astype(int)
        assert np.abs(alone[0] - together[i]).max() <= 1  # one grey level of rounding


def test_a_rollout_repeats(model, frames):
    assert torch.equal(run(model, frames, [0, 1, 2]).frame, run(model, frames, [0, 1, 2]).frame)


def test_an_old_state_can_be_branched_from(model, frames):
    state = run(model, frames, [0, 1, 2], steps=2)
    kept = state.latents.clone()
    one = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 3))
    model.step(state, act(model, [3, 4, 5]), noise([0, 1, 2], 3))
    again = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 3))
    assert torch.equal(state.latents, kept)
    assert torch.equal(one.frame, again.frame)


def test_states_of_equal_history_can_be_joined(model, frames):
    parts = [run(model, frames[i : i + 1], [i], steps=2) for i in (2, 0)]
    joined = model.step(join_states(parts), act(model, [2, 0]), noise([2, 0], 3))
    whole = run(model, frames, [0, 1, 2], steps=3)
    difference = to_uint8(joined.frame).astype(int) - to_uint8(whole.frame)[[2, 0]]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((3, 7), np.float32), r"expected actions of shape \(B, 13\)"),
        (np.full((3, 13), np.nan, np.float32), "found nan"),
        (np.full((3, 13), 2, np.float32), "found 2 in row 0"),
    ],
)
def test_bad_actions_are_refused(model, frames, bad, message):
    with pytest.raises(ValueError, match=message):
        model.step(model.start(frames), bad, noise([0, 1, 2], 1))


@pytest.mark.parametrize(
    "bad", [np.zeros((1, 32, 64, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32)]
)
def test_bad_frames_are_refused(model, bad):
    with pytest.raises(ValueError, match=r"expected uint8 frames of shape \(B, 64, 64, 3\)"):
        model.start(bad)
