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
    """Two frames of each of three rollouts."""
    return np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), np.uint8)


def act(model, rows, scale=1.0):
    motions = np.random.default_rng(1).uniform(-0.05, 0.05, (8, 3)) * scale
    return np.stack([model.robot.make_action(world_vector=motions[row]) for row in rows])


def noise(seeds, frame):
    return FrameNoise(tuple(seeds), (0,) * len(seeds), (frame,) * len(seeds))


def start(model, frames, seeds):
    """Begin from frames (B, T, H, W, 3); the actions between them are those of `act`."""
    between = frames.shape[1] - 1
    actions = act(model, seeds)[:, None].repeat(between, axis=1)
    return model.start(frames, actions, noise(seeds, between))


def run(model, frames, seeds, steps=6):
    state = start(model, frames, seeds)
    for t in range(steps):
        state = model.step(state, act(model, seeds), noise(seeds, frames.shape[1] + t))
    return state


def test_it_says_how_much_it_looks_at(model):
    assert 1 <= model.context_frames < model.window


@pytest.mark.parametrize("count", [1, 2])
def test_start_keeps_the_newest_frame(model, frames, count):
    state = start(model, frames[:, :count], [0, 1, 2])
    assert np.array_equal(to_uint8(state.frame), frames[:, count - 1])
    assert state.history == count and len(state) == 3


def test_start_keeps_the_actions_and_knows_none_before(model, frames):
    state = start(model, frames, [0, 1, 2])
    assert state.actions[:, 0].isnan().all()
    np.testing.assert_allclose(state.actions[:, 1].float(), act(model, [0, 1, 2]), rtol=1e-6)


def test_actions_between_the_first_frames_need_not_be_known(model, frames):
    unknown = np.full((3, 1, 13), np.nan, np.float32)
    state = model.start(frames, unknown, noise([0, 1, 2], 1))
    assert model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 2)).frame.isfinite().all()


def test_history_never_exceeds_the_window(model, frames):
    state = run(model, frames, [0, 1, 2], steps=7)
    assert state.history == model.window == state.actions.shape[1]


def test_frames_stay_in_range(model, frames):
    frame = run(model, frames, [0, 1, 2]).frame
    assert frame.shape == (3, 3, 64, 64) and frame.dtype == torch.float32
    assert frame.abs().max() <= 1 and frame.isfinite().all()


@pytest.mark.parametrize("count", [1, 2])
def test_a_rollout_is_the_same_alone_and_in_a_batch(model, frames, count):
    frames = frames[:, :count]
    together = to_uint8(run(model, frames, [0, 1, 2]).frame).astype(int)
    for i in range(3):
        alone = to_uint8(run(model, frames[i : i + 1], [i]).frame).astype(int)
        assert np.abs(alone[0] - together[i]).max() <= 1  # one grey level of rounding


def test_a_rollout_repeats(model, frames):
    assert torch.equal(run(model, frames, [0, 1, 2]).frame, run(model, frames, [0, 1, 2]).frame)


def test_an_old_state_can_be_branched_from(model, frames):
    state = run(model, frames, [0, 1, 2], steps=2)
    kept = state.latents.clone()
    one = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 4))
    model.step(state, act(model, [3, 4, 5]), noise([0, 1, 2], 4))
    again = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 4))
    assert torch.equal(state.latents, kept)
    assert torch.equal(one.frame, again.frame)


def test_states_of_equal_history_can_be_joined(model, frames):
    parts = [run(model, frames[i : i + 1], [i], steps=2) for i in (2, 0)]
    joined = model.step(join_states(parts), act(model, [2, 0]), noise([2, 0], 4))
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
        model.step(start(model, frames, [0, 1, 2]), bad, noise([0, 1, 2], 2))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((1, 1, 32, 64, 3), np.uint8), r"expected uint8 frames of shape \(N, 64, 64, 3\)"),
        (np.zeros((1, 1, 64, 64, 3), np.float32), r"expected uint8 frames .* found float32"),
        (np.zeros((1, 64, 64, 3), np.uint8), r"frames \(B, T, H, W, 3\) to begin with"),
        (np.zeros((1, 9, 64, 64, 3), np.uint8), "expected 1 to 3 frames"),
    ],
)
def test_bad_frames_are_refused(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.start(bad, np.zeros((1, max(bad.shape[1] - 1, 0), 13), np.float32), noise([0], 0))


def clip(model, frames, seeds, length=4):
    actions = act(model, seeds)[:, None].repeat(length - 1, axis=1)
    return model.imagine_clip(frames[:, 0], actions, noise(seeds, length - 1))


@pytest.mark.parametrize("length", [2, 4])
def test_a_whole_clip_has_one_frame_more_than_actions(model, frames, length):
    imagined = clip(model, frames, [0, 1, 2], length)
    assert imagined.shape == (3, length, 64, 64, 3) and imagined.dtype == np.uint8


def test_a_whole_clip_repeats_and_is_the_same_alone(model, frames):
    together = clip(model, frames, [0, 1, 2])
    assert np.array_equal(together, clip(model, frames, [0, 1, 2]))
    for i in range(3):
        alone = clip(model, frames[i : i + 1], [i])
        assert np.abs(alone[0].astype(int) - together[i]).max() <= 1


@pytest.mark.parametrize(
    ("frames", "actions", "message"),
    [
        (np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 4, 13)), "expected 1 to 3 actions"),
        (np.zeros((1, 64, 64, 3), np.uint8), np.zeros((2, 2, 13)), r"shape \(1, 2, 13\)"),
        (np.zeros((1, 32, 64, 3), np.uint8), np.zeros((1, 2, 13)), "expected uint8 frames"),
    ],
)
def test_bad_clips_are_refused(model, frames, actions, message):
    with pytest.raises(ValueError, match=message):
        model.imagine_clip(frames, actions.astype(np.float32), noise([0], 3))
