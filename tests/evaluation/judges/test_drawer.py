from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.train import JudgeTrainConfig
from v2w_gym.evaluation.judges.drawer import augment, measure, train_judge
from v2w_gym.judges.loading import load_judge
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled


def drawn_episode(openings, task, seed=0):
    """Draw frames in which a white bar is 4 pixels high per centimetre of opening."""
    frames = np.full((len(openings), 64, 64, 3), 40, np.uint8)
    for frame, opening in zip(frames, openings, strict=True):
        frame[: round(400 * opening), 16:48] = 230
    actions = np.zeros((len(openings) - 1, 13), np.float32)
    return LabelledEpisode(
        frames=frames,
        actions=actions,
        expert_actions=actions,
        success=np.zeros(len(openings), np.bool_),
        robot="standin_sawyer",
        task=task,
        instruction="",
        behaviour="drawn",
        seed=seed,
        state={"opening": np.asarray(openings, np.float32)},
    )


class Reader:
    """A judge that measures the bar, and cannot read a frame without one."""

    def opening(self, frames):
        opening = (frames[:, :, 30, 0] > 100).sum(axis=1) / 400
        return opening, np.where(opening > 0, 0.001, 1.0)


def test_measure_counts_errors_agreement_and_abstention():
    episodes = [
        drawn_episode([0.15, 0.05, 0.02, 0.01], "close_drawer"),  # solved
        drawn_episode([0.15, 0.15, 0.15, 0.02], "close_drawer"),  # solved in one frame only
        drawn_episode([0.15, 0.15, 0.0, 0.0], "close_drawer"),  # solved, but unreadable
        drawn_episode([0.05, 0.13, 0.13, 0.13], "open_drawer"),
    ]
    found = measure(Reader(), episodes)
    assert (found["frames"], found["unreadable_frames"]) == (16, 2)
    assert found["mean_error_cm"] == pytest.approx(0, abs=1e-3)
    close = found["close_drawer"]
    assert [close[k] for k in ("episodes", "solved", "abstained", "judged", "agreed")] == [
        *(3, 2, 1, 2, 2)
    ]
    assert close["agreement_95_percent"] == [0.342, 1.0]  # Wilson, 2 of 2
    assert found["open_drawer"]["agreement"] == 1.0


def test_measure_refuses_a_judge_that_reads_nothing():
    with pytest.raises(ValueError, match="train longer"):
        measure(Reader(), [drawn_episode([0.0, 0.0], "close_drawer")])


def test_augmented_frames_are_reproducible_and_in_range():
    frames = torch.rand(16, 3, 64, 64) * 2 - 1
    before = frames.clone()
    once, again = (augment(frames, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(frames, before)
    assert torch.equal(once, again)
    assert once.shape == frames.shape
    assert once.abs().max() <= 1
    assert ((once - frames).abs().mean(dim=(1, 2, 3)) > 0.01).all()


def record(folder, count):
    """Write `count` drawn episodes."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        task = ("close_drawer", "open_drawer")[i % 2]
        save_labelled(
            folder / f"episode_{i:08d}.npz", drawn_episode(rng.uniform(0, 0.16, 6), task, i)
        )


def test_a_judge_that_reads_nothing_can_be_trained_longer(tmp_path):
    record(tmp_path / "train", 2)
    folder = [str(tmp_path / "train")]
    cfg = JudgeTrainConfig(str(tmp_path / "judge.safetensors"), folder, folder, 1, 2)
    for steps in (1, 2):
        with pytest.raises(ValueError, match="train longer"):
            train_judge(replace(cfg, steps=steps))
    assert not (tmp_path / "judge.training").exists()


def test_trained_judge_reads_openings_and_its_card_says_how_well(tmp_path):
    record(tmp_path / "train", 60)
    record(tmp_path / "held_out", 10)
    cfg = JudgeTrainConfig(
        output=str(tmp_path / "judge.safetensors"),
        episodes=[str(tmp_path / "train")],
        held_out=[str(tmp_path / "held_out")],
        steps=200,
        batch_size=32,
    )
    judge = train_judge(cfg)
    held_out = judge.card["held_out"]
    assert held_out["frames"] == 60
    assert held_out["mean_error_cm"] < 1.5  # guessing the mean misses by 4
    assert load_judge(cfg.output, STANDIN_SAWYER).name == judge.name


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"robot": "google_robot"}, "expected robot 'standin_sawyer' in .*episode_9.npz"),
        ({"task": "play"}, "task of .*episode_9.npz to be one of"),
        ({"state": {}}, r"opening \(4,\) in the state of .*episode_9.npz"),
        ({"state": {"opening": np.zeros((4, 1), np.float32)}}, "state of .*episode_9.npz"),
    ],
)
def test_episodes_that_do_not_fit_are_named(tmp_path, changes, text):
    episode = drawn_episode([0.1, 0.1, 0.0, 0.0], "close_drawer")
    save_labelled(tmp_path / "episode_1.npz", episode)
    save_labelled(tmp_path / "episode_9.npz", replace(episode, **changes))
    cfg = JudgeTrainConfig(
        output=str(tmp_path / "judge.safetensors"),
        episodes=[str(tmp_path)],
        held_out=[str(tmp_path / "episode_1.npz")],
    )
    with pytest.raises(ValueError, match=text):
        train_judge(cfg)
