"""Conformance tests of the `WorldModel` protocol, which a new world model's tests inherit.

class TestMine(WorldModelConformance):
    @pytest.fixture
    def model(self) -> WorldModel: ...
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.world_models.base import ClipModel, WorldModel
from v2w_gym.world_models.state import FrameNoise, RolloutState, join_states

SEEDS = (0, 1, 2)
KNOWN = 2
"""Number of frames that rollouts begin with."""


class WorldModelConformance:
    """Tests of any `WorldModel`; the fixture `model` needs a window of at least four frames."""

    @pytest.fixture
    def frames(self, model: WorldModel) -> NDArray[np.uint8]:
        """Return two frames of each of three rollouts: (3, 2, H, W, 3)."""
        shape = (len(SEEDS), KNOWN, *model.robot.frame_size, 3)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    def test_context_frames_leave_room_in_the_window(self, model: WorldModel) -> None:
        assert 1 <= model.context_frames < model.window

    def test_card_and_fingerprint_are_stable(self, model: WorldModel) -> None:
        """The card is JSON."""
        assert json.loads(json.dumps(dict(model.card)))
        assert model.card == model.card
        assert isinstance(model.fingerprint, str)
        assert len(model.fingerprint) >= 16
        assert model.fingerprint == model.fingerprint

    @pytest.mark.parametrize("count", [1, KNOWN])
    def test_start_sets_lengths(
        self, model: WorldModel, frames: NDArray[np.uint8], count: int
    ) -> None:
        """Latents before the first frame are zeros."""
        state = start(model, frames[:, :count], SEEDS)
        assert state.lengths.tolist() == [count] * len(SEEDS)
        assert len(state) == len(SEEDS)
        assert not state.latents[:, :-count].any()
        assert state.latents[:, -count:].any()

    def test_start_keeps_the_actions_and_knows_none_before(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """Unknown actions are NaN."""
        state = start(model, frames, SEEDS)
        assert state.actions[:, :-1].isnan().all()
        kept = state.actions[:, -1].float().cpu()
        np.testing.assert_allclose(kept, act(model, SEEDS), rtol=1e-6)

    def test_actions_between_the_first_frames_need_not_be_known(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """A rollout can continue from unknown actions."""
        unknown = np.full((len(SEEDS), KNOWN - 1, model.robot.action_size), np.nan, np.float32)
        state = model.start(frames, unknown, noise(SEEDS, KNOWN - 1))
        newer = model.step(state, act(model, SEEDS), noise(SEEDS, KNOWN))
        assert newer.latents.isfinite().all()

    def test_a_state_never_grows(self, model: WorldModel, frames: NDArray[np.uint8]) -> None:
        """The window slides once a rollout is longer."""
        begun = start(model, frames, SEEDS)
        late = run(model, frames, SEEDS, steps=model.window + 2)
        assert late.lengths.tolist() == [model.window] * len(SEEDS)
        assert late.latents.shape[1] == model.window == late.actions.shape[1]
        assert [t.shape for t in late.tensors()] == [t.shape for t in begun.tensors()]
        assert late.nbytes == begun.nbytes
        assert late.latents.isfinite().all()

    def test_render_returns_camera_frames(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """They are uint8 of the robot's frame size, also right after the start."""
        for state in (start(model, frames, SEEDS), run(model, frames, SEEDS, steps=1)):
            picture = model.render(state)
            assert picture.shape == (len(SEEDS), *model.robot.frame_size, 3)
            assert picture.dtype == np.uint8

    def test_a_rollout_is_the_same_alone_and_in_a_batch(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """One grey level of rounding is allowed."""
        frames, steps = frames[:, :1], model.window + 1
        together = model.render(run(model, frames, SEEDS, steps)).astype(int)
        for row, seed in enumerate(SEEDS):
            alone = model.render(run(model, frames[[row]], [seed], steps))
            assert np.abs(alone[0] - together[row]).max() <= 1

    def test_a_rollout_repeats(self, model: WorldModel, frames: NDArray[np.uint8]) -> None:
        """Seed, episode, frames and actions alone determine it; other rollouts do not matter."""
        once = run(model, frames, SEEDS)
        run(model, frames[::-1], [7, 8, 9])
        assert torch.equal(once.latents, run(model, frames, SEEDS).latents)

    def test_an_old_state_can_be_branched_from(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """A step does not change its input state."""
        state = run(model, frames, SEEDS, steps=2)
        kept = [tensor.clone() for tensor in state.tensors()]
        key = noise(SEEDS, KNOWN + 2)
        one = model.step(state, act(model, SEEDS), key)
        model.step(state, act(model, [3, 4, 5]), key)
        again = model.step(state, act(model, SEEDS), key)
        for before, now in zip(kept, state.tensors(), strict=True):
            torch.testing.assert_close(before, now, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(one.latents, again.latents)

    @pytest.mark.parametrize("ages", ["just begun and past the window", "both young"])
    def test_rollouts_of_any_age_step_together(
        self, model: WorldModel, frames: NDArray[np.uint8], ages: str
    ) -> None:
        """Each continues as if it were alone."""
        seeds, done = (2, 0), (1, 2) if ages == "both young" else (0, model.window + 1)
        parts = [run(model, frames[[i]], [i], n) for i, n in zip(seeds, done, strict=True)]
        key = FrameNoise(seeds, (0, 0), tuple(KNOWN + n for n in done))
        together = model.step(join_states(parts), act(model, seeds), key)
        for row, (i, n) in enumerate(zip(seeds, done, strict=True)):
            alone = run(model, frames[[i]], [i], n + 1)
            torch.testing.assert_close(together.latents[row], alone.latents[0])
            assert together.lengths[row] == alone.lengths[0]

    def test_other_rows_of_a_batch_change_no_bit(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """In batches of one size, a row does not depend on the content of the others."""
        one = run(model, frames[[0, 1]], [0, 1])
        two = run(model, frames[[0, 2]], [0, 5])
        assert torch.equal(one.latents[0], two.latents[0])
        assert not torch.equal(one.latents[1], two.latents[1])

    def test_a_row_can_be_reset_between_others(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """States can be split and joined by rows."""
        state, fresh = run(model, frames, SEEDS, steps=5), start(model, frames[[1]], [7])
        rows = [state.select([0]), fresh, state.select([2])]
        taken = act(model, [0, 7, 2])
        key = FrameNoise((0, 7, 2), (0,) * 3, (KNOWN + 5, KNOWN, KNOWN + 5))
        mixed = model.step(join_states(rows), taken, key)
        undisturbed = run(model, frames, SEEDS, steps=6)
        others = [0, 2]
        assert_near(mixed.latents[others], undisturbed.latents[others])
        alone = model.step(fresh, taken[[1]], key.select([1]))
        assert_near(mixed.latents[1], alone.latents[0])

    def test_a_state_can_be_kept_as_tensors(
        self, model: WorldModel, frames: NDArray[np.uint8]
    ) -> None:
        """A state rebuilt from its tensors continues identically."""
        state = run(model, frames, SEEDS, steps=2)
        back = state.with_tensors(tensor.clone() for tensor in state.tensors())
        key = noise(SEEDS, KNOWN + 2)
        one, two = (model.step(each, act(model, SEEDS), key) for each in (state, back))
        assert torch.equal(one.latents, two.latents)

    def test_wrong_actions_are_refused(self, model: WorldModel, frames: NDArray[np.uint8]) -> None:
        """Another shape, NaN, and values out of the robot's bounds."""
        state, size = start(model, frames, SEEDS), model.robot.action_size
        beyond = np.tile(model.robot.high + 1, (len(SEEDS), 1))
        for wrong, message in (
            (np.zeros((len(SEEDS), size + 1)), rf"expected actions of shape \(B, {size}\)"),
            (np.full((len(SEEDS), size), np.nan), "found nan"),
            (beyond, "in row 0"),
        ):
            with pytest.raises(ValueError, match=message):
                model.step(state, wrong.astype(np.float32), noise(SEEDS, KNOWN))

    def test_wrong_frames_are_refused(self, model: WorldModel, frames: NDArray[np.uint8]) -> None:
        """Another size, type or number of dimensions, and too many frames for the window."""
        too_many = np.repeat(frames[:1, :1], model.window, axis=1)
        size = ", ".join(map(str, model.robot.frame_size))
        wrongs: Sequence[tuple[NDArray[Any], str]] = (
            (frames[:1, :1, 1:], rf"expected uint8 frames of shape \(N, {size}, 3\)"),
            (frames[:1, :1].astype(np.float32), "expected uint8 frames .* found float32"),
            (frames[:1, 0], r"frames \(B, T, H, W, 3\) to begin with"),
            (too_many, f"expected 1 to {model.window - 1} frames"),
        )
        for wrong, message in wrongs:
            unknown = np.full((1, wrong.shape[1] - 1, model.robot.action_size), np.nan, np.float32)
            with pytest.raises(ValueError, match=message):
                model.start(wrong, unknown, noise([0], 0))


class ClipModelConformance(WorldModelConformance):
    """Tests of any world model that is also a `ClipModel`."""

    @pytest.fixture
    def clips(self, model: WorldModel) -> ClipModel:
        """Return the model as a `ClipModel`."""
        assert isinstance(model, ClipModel)
        return model

    @pytest.mark.parametrize("length", [2, 4])
    def test_a_clip_has_one_frame_more_than_actions(
        self, model: WorldModel, clips: ClipModel, frames: NDArray[np.uint8], length: int
    ) -> None:
        """A clip includes its first frame."""
        imagined = imagine(model, clips, frames, SEEDS, length)
        assert imagined.shape == (len(SEEDS), length, *model.robot.frame_size, 3)
        assert imagined.dtype == np.uint8

    def test_a_clip_repeats_and_is_the_same_alone(
        self, model: WorldModel, clips: ClipModel, frames: NDArray[np.uint8]
    ) -> None:
        """One grey level of rounding is allowed between batch sizes."""
        together = imagine(model, clips, frames, SEEDS)
        assert np.array_equal(together, imagine(model, clips, frames, SEEDS))
        for row, seed in enumerate(SEEDS):
            alone = imagine(model, clips, frames[[row]], [seed])
            assert np.abs(alone[0].astype(int) - together[row]).max() <= 1

    def test_wrong_clips_are_refused(
        self, model: WorldModel, clips: ClipModel, frames: NDArray[np.uint8]
    ) -> None:
        """Too many actions for the window, a batch of another size, and frames of another size."""
        first, longest, size = frames[:1, 0], model.window - 1, model.robot.action_size
        for wrong, shape, message in (
            (first, (1, longest + 1, size), f"expected 1 to {longest} actions"),
            (first, (2, 2, size), rf"shape \(1, 2, {size}\)"),
            (first[:, 1:], (1, 2, size), "expected uint8 frames"),
        ):
            with pytest.raises(ValueError, match=message):
                clips.imagine_clip(wrong, np.zeros(shape, np.float32), noise([0], 3))


def assert_near(found: Tensor, expected: Tensor) -> None:
    """Compare up to the rounding of batches of other sizes."""
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def act(model: WorldModel, rows: Sequence[int]) -> NDArray[np.float32]:
    """Return a move of the robot for each row: (B, A)."""
    moves = list(model.robot.moves.values())
    return np.stack([moves[row % len(moves)] for row in rows])


def noise(seeds: Sequence[int], frame: int) -> FrameNoise:
    """Return the noise of one frame in episode 0 of each seed."""
    return FrameNoise(tuple(seeds), (0,) * len(seeds), (frame,) * len(seeds))


def start(model: WorldModel, frames: NDArray[np.uint8], seeds: Sequence[int]) -> RolloutState:
    """Begin from frames (B, T, H, W, 3); the actions between them are those of `act`."""
    between = frames.shape[1] - 1
    actions = act(model, seeds)[:, None].repeat(between, axis=1)
    return model.start(frames, actions, noise(seeds, between))


def run(
    model: WorldModel, frames: NDArray[np.uint8], seeds: Sequence[int], steps: int = 4
) -> RolloutState:
    """Begin from frames, and repeat the actions of `act`."""
    state = start(model, frames, seeds)
    for step in range(steps):
        state = model.step(state, act(model, seeds), noise(seeds, frames.shape[1] + step))
    return state


def imagine(
    model: WorldModel,
    clips: ClipModel,
    frames: NDArray[np.uint8],
    seeds: Sequence[int],
    length: int = 4,
) -> NDArray[np.uint8]:
    """Imagine clips of `length` frames from the first of `frames` (B, T, H, W, 3)."""
    actions = act(model, seeds)[:, None].repeat(length - 1, axis=1)
    return clips.imagine_clip(frames[:, 0], actions, noise(seeds, length - 1))
