"""What every world model must do, whatever it is made of."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.world_models.base import FrameNoise, join_states
from v2w_gym.world_models.copy_last import CopyLast

GUIDED = {"guidance_scale": 2.0, "guidance_rescale": 0.7, "eta": 1.0, "steps": 3}
MODELS = {
    "vid2world": ("per_frame", {}),
    "vid2world_rolling_guided": ("per_frame", {**GUIDED, "history": "rolling"}),
    "vid2world_pooled_guided": ("pooled", GUIDED),
    "vid2world_pooled_frozen": ("pooled", {**GUIDED, "history": "frozen"}),
}


@pytest.fixture(params=["copy_last", *MODELS])
def model(request, tiny_config, make_model):
    if request.param == "copy_last":
        return CopyLast(STANDIN_SAWYER, window=4)
    norm, sampler = MODELS[request.param]
    unet = replace(tiny_config.unet, temporal_norm=norm)
    sampler = replace(tiny_config.sampler, **sampler)
    return make_model(replace(tiny_config, unet=unet)).with_sampler(sampler)


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


def shown(model, state):
    return model.render(state).astype(int)


def run(model, frames, seeds, steps=6):
    state = start(model, frames, seeds)
    for t in range(steps):
        state = model.step(state, act(model, seeds), noise(seeds, frames.shape[1] + t))
    return state


def test_it_says_how_much_it_looks_at(model):
    assert 1 <= model.context_frames < model.window


@pytest.mark.parametrize("count", [1, 2])
def test_start_says_how_many_frames_there_are(model, frames, count):
    state = start(model, frames[:, :count], [0, 1, 2])
    assert state.lengths.tolist() == [count] * 3 and len(state) == 3
    assert not state.latents[:, :-count].any() and state.latents[:, -count:].any()


def test_start_keeps_the_actions_and_knows_none_before(model, frames):
    state = start(model, frames, [0, 1, 2])
    assert state.actions[:, :-1].isnan().all()
    np.testing.assert_allclose(state.actions[:, -1].float(), act(model, [0, 1, 2]), rtol=1e-6)


def test_actions_between_the_first_frames_need_not_be_known(model, frames):
    unknown = np.full((3, 1, 13), np.nan, np.float32)
    state = model.start(frames, unknown, noise([0, 1, 2], 1))
    newer = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 2))
    assert newer.latents.isfinite().all()


def test_a_state_never_grows(model, frames):
    begun, late = start(model, frames, [0, 1, 2]), run(model, frames, [0, 1, 2], steps=7)
    assert late.lengths.tolist() == [model.window] * 3
    assert late.latents.shape[1] == model.window == late.actions.shape[1]
    assert [t.shape for t in late.tensors()] == [t.shape for t in begun.tensors()]
    assert late.nbytes == begun.nbytes


def test_frames_are_shown_as_pictures(model, frames):
    picture = model.render(run(model, frames, [0, 1, 2]))
    assert picture.shape == (3, 64, 64, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("count", [1, 2])
def test_a_rollout_is_the_same_alone_and_in_a_batch(model, frames, count):
    frames = frames[:, :count]
    together = shown(model, run(model, frames, [0, 1, 2]))
    for i in range(3):
        alone = shown(model, run(model, frames[i : i + 1], [i]))
        assert np.abs(alone[0] - together[i]).max() <= 1  # one grey level of rounding


def test_a_rollout_repeats(model, frames):
    once, twice = run(model, frames, [0, 1, 2]), run(model, frames, [0, 1, 2])
    assert torch.equal(once.latents, twice.latents)


def test_an_old_state_can_be_branched_from(model, frames):
    state = run(model, frames, [0, 1, 2], steps=2)
    kept = [tensor.clone() for tensor in state.tensors()]
    one = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 4))
    model.step(state, act(model, [3, 4, 5]), noise([0, 1, 2], 4))
    again = model.step(state, act(model, [0, 1, 2]), noise([0, 1, 2], 4))
    for before, now in zip(kept, state.tensors(), strict=True):
        torch.testing.assert_close(before, now, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(one.latents, again.latents)


@pytest.mark.parametrize("steps", [(0, 3), (1, 6), (4, 5)])
def test_rollouts_of_any_age_step_together(model, frames, steps):
    """One row has just begun, another has slid past its window: each goes on as if alone."""
    seeds = (2, 0)
    parts = [run(model, frames[i : i + 1], [i], steps=n) for i, n in zip(seeds, steps, strict=True)]
    frame = tuple(frames.shape[1] + n for n in steps)
    together = model.step(join_states(parts), act(model, seeds), FrameNoise(seeds, (0, 0), frame))
    for row, (i, n) in enumerate(zip(seeds, steps, strict=True)):
        alone = run(model, frames[i : i + 1], [i], steps=n + 1)
        torch.testing.assert_close(together.latents[row], alone.latents[0], rtol=1e-4, atol=1e-4)
        assert together.lengths[row] == alone.lengths[0]


def test_what_the_neighbours_are_changes_no_bit(model, frames):
    """A batch of one size rounds in one way, whatever the other rows hold."""
    others = frames[::-1]
    one = run(model, np.stack([frames[0], frames[1]]), [0, 1])
    two = run(model, np.stack([frames[0], others[0]]), [0, 5])
    assert torch.equal(one.latents[0], two.latents[0])
    assert not torch.equal(one.latents[1], two.latents[1])


def test_a_row_can_be_reset_between_others(model, frames):
    state = run(model, frames, [0, 1, 2], steps=5)
    fresh = start(model, frames[1:2], [7])
    rows = [state.select([0]), fresh, state.select([2])]
    taken, keys = act(model, [0, 7, 2]), FrameNoise((0, 7, 2), (0,) * 3, (7, 2, 7))
    mixed = model.step(join_states(rows), taken, keys)
    undisturbed = run(model, frames, [0, 1, 2], steps=6)
    torch.testing.assert_close(
        mixed.latents[[0, 2]], undisturbed.latents[[0, 2]], rtol=1e-4, atol=1e-4
    )
    alone = model.step(fresh, taken[1:2], keys.select([1]))
    torch.testing.assert_close(mixed.latents[1], alone.latents[0], rtol=1e-4, atol=1e-4)


def test_a_state_is_kept_as_tensors(model, frames):
    state = run(model, frames, [0, 1, 2], steps=2)
    back = state.with_tensors(tensor.clone() for tensor in state.tensors())
    one, two = (model.step(s, act(model, [0, 1, 2]), noise([0, 1, 2], 4)) for s in (state, back))
    assert torch.equal(one.latents, two.latents)


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
