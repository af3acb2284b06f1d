import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation.gate.open_loop import imagine, measure_open_loop
from v2w_gym.judges.base import Quantity
from v2w_gym.judges.drawer import judge_openings
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.data.labelled import LabelledEpisode

STEPS = 6


class BrightnessJudge:
    """Reads the drawer's opening, in units of 0.2 m, from the brightness of the frame."""

    name = "brightness"
    card = {"kind": "brightness"}
    quantity = Quantity("opening", unit="cm", scale=100)
    sigma = 0.001

    def reading(self, frames):
        return frames.mean((2, 3, 4)) / 255 * 0.2

    def success(self, frames, task):
        return self.verdicts(frames, task).success

    def verdicts(self, frames, task):
        opening = self.reading(frames)
        return judge_openings(opening, np.full(opening.shape, self.sigma), task)


class PerfectWorld(CopyLast):
    """Brightens the frame by what the hand moves, as the recorded episodes below do."""

    def step(self, state, actions, noise):
        frame = state.latents[:, -1] + to_change(actions)
        return state.followed(frame, torch.from_numpy(actions))


def to_change(actions):
    motion = actions[:, STANDIN_SAWYER.slices["world_vector"]][:, :1, None, None]
    return torch.from_numpy(8 * motion)


def episode(seed, motion):
    """Open or close by `motion` per step; 0.05 a step is 0.4 of the [-1, 1] range."""
    frames = [np.full((64, 64, 3), 26, np.uint8)]
    for _ in range(STEPS):
        value = np.clip(frames[-1].astype(float) + motion * 8 * 127.5, 0, 255)
        frames.append(np.round(value).astype(np.uint8))
    opening = np.array([frame.mean() / 255 * 0.2 for frame in frames], np.float32)
    actions = np.stack([STANDIN_SAWYER.make_action(world_vector=[motion, 0, 0])] * STEPS)
    return LabelledEpisode(
        frames=np.stack(frames),
        actions=actions,
        expert_actions=actions,
        success=opening >= 0.12,
        robot="standin_sawyer",
        task="open_drawer",
        instruction="open the drawer",
        behaviour="expert",
        seed=seed,
        state={"opening": opening},
    )


@pytest.fixture
def episodes():
    return [episode(seed, motion) for seed, motion in enumerate([0.04, 0.03, 0.002, 0.0, 0.01])]


def test_a_perfect_world_agrees_everywhere(episodes):
    imagined = imagine(PerfectWorld(STANDIN_SAWYER), episodes, batch_size=2)
    assert imagined.shape == (5, STEPS + 1, 64, 64, 3)
    result = measure_open_loop(episodes, imagined, BrightnessJudge())
    assert (result.solved, result.agreed, result.missed, result.invented) == (2, 5, 0, 0)
    assert result.agreed_on_real == 5
    assert (result.reading.quantity, result.reading.unit) == ("opening", "cm")
    assert max(result.reading.error, result.reading.error_on_real) < 0.1
    assert result.reading.change_correlation > 0.999
    assert result.psnr[1] > 45 > result.psnr_copy[1]
    assert result.majority == 0.6


def test_a_frozen_world_misses_every_success(episodes):
    imagined = imagine(CopyLast(STANDIN_SAWYER), episodes, batch_size=5)
    result = measure_open_loop(episodes, imagined, BrightnessJudge())
    assert (result.agreed, result.missed, result.invented) == (3, 2, 0)
    assert np.isnan(result.reading.change_correlation)
    moved = np.mean([e.state["opening"] - e.state["opening"][0] for e in episodes])
    assert result.reading.error == pytest.approx(100 * moved, rel=1e-5)  # metres shown as cm
    assert result.psnr == result.psnr_copy


def test_imagined_episodes_do_not_depend_on_the_batch(episodes):
    world = PerfectWorld(STANDIN_SAWYER)
    assert np.array_equal(imagine(world, episodes, 1), imagine(world, episodes, 5))


def test_an_abstention_never_agrees(episodes):
    class Blind(BrightnessJudge):
        sigma = 1.0

    imagined = np.stack([e.frames for e in episodes])
    result = measure_open_loop(episodes, imagined, Blind())
    assert (result.agreed, result.abstained, result.missed, result.invented) == (0, 5, 0, 0)


def test_of_a_judge_that_measures_nothing_no_reading_is_reported(episodes):
    class Plain:
        name, card = "plain", {}

        def success(self, frames, task):
            return BrightnessJudge().success(frames, task)

        def verdicts(self, frames, task):
            return BrightnessJudge().verdicts(frames, task)

    imagined = np.stack([e.frames for e in episodes])
    result = measure_open_loop(episodes, imagined, Plain())
    assert (result.agreed, result.reading) == (5, None)
