from pathlib import Path

import numpy as np
import pytest

from configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from policies.rt1.demonstrations import Demonstrations, load_demonstrations, sample_windows
from policies.rt1.tokenizer import ActionTokenizer
from world_models.data.episodes import load_episode

TOKENIZER = ActionTokenizer(STANDIN_SAWYER)


@pytest.fixture
def data(episodes: Path) -> Demonstrations:
    return load_demonstrations([str(episodes)], STANDIN_SAWYER, TOKENIZER)


def test_labels_are_the_experts_actions_at_every_frame_but_the_last(
    data: Demonstrations, episodes: Path
):
    assert data.first.tolist() == [0] * 8 + [8] * 3
    assert data.last.tolist() == [7] * 8 + [10] * 3
    assert data.frames[:, 0, 0, 0].tolist() == [*range(8), 100, 101, 102]
    expert = load_episode(episodes / "episode_0.npz").expert_actions
    assert (data.tokens[:8] == TOKENIZER.encode(expert)).all()
    assert data.instructions[[0, 8]].tolist() == ["close the drawer", "open the drawer"]


def test_windows_are_memories_of_a_deployed_policy(data: Demonstrations):
    windows = sample_windows(data, 2000, 6, 0, np.random.default_rng(0))
    seen = {
        tuple(pixel for pixel, real in zip(pixels, mask, strict=True) if real)
        for pixels, mask in zip(
            windows.frames[:, :, 0, 0, 0].tolist(), windows.mask.tolist(), strict=True
        )
    }
    assert seen == {
        (0, 1, 2, 3, 4, 5),
        (1, 2, 3, 4, 5, 6),
        (2, 3, 4, 5, 6, 7),
        (100, 101, 102),  # padded at the end
    }
    starts_with_the_episode = (windows.frames[:, 0, 0, 0, 0] == 0).float().mean().item()
    assert starts_with_the_episode == pytest.approx(6 / 11, abs=0.05)  # 6 of 11 steps


def test_tokens_and_instructions_follow_their_frames(data: Demonstrations):
    windows = sample_windows(data, 50, 6, 0, np.random.default_rng(0))
    by_pixel = dict(zip(data.frames[:, 0, 0, 0].tolist(), data.tokens.tolist(), strict=True))
    pixels = windows.frames[:, :, 0, 0, 0]
    assert windows.tokens.tolist() == [[by_pixel[p] for p in row] for row in pixels.tolist()]
    expected = ["open the drawer" if row[0] >= 100 else "close the drawer" for row in pixels]
    assert windows.instructions.tolist() == expected


def test_shift_moves_all_frames_of_a_window_alike_and_repeats_the_edge():
    picture = np.arange(64 * 64 * 3).reshape(1, 64, 64, 3).astype(np.uint8)
    zeros = np.zeros(2, np.int64)
    data = Demonstrations(
        frames=np.repeat(picture, 2, axis=0),
        tokens=np.zeros((2, 11), np.int64),
        instructions=np.array(["close the drawer"] * 2),
        first=zeros,
        last=zeros + 1,
    )
    padded = np.pad(picture[0], ((2, 2), (2, 2), (0, 0)), mode="edge")
    allowed = {padded[y : y + 64, x : x + 64].tobytes() for y in range(5) for x in range(5)}
    windows = sample_windows(data, 200, 2, 2, np.random.default_rng(0))
    assert (windows.frames[:, 0] == windows.frames[:, 1]).all()
    assert {frame.numpy().tobytes() for frame in windows.frames[:, 0]} == allowed


def test_episodes_of_another_robot_are_refused(episodes: Path):
    with pytest.raises(ValueError, match="expected robot 'google_robot'"):
        load_demonstrations([str(episodes)], GOOGLE_ROBOT, ActionTokenizer(GOOGLE_ROBOT))
