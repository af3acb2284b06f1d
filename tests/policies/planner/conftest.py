"""An untrained network, and episodes whose hand and handle are coloured squares."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.policies.planner.perception import PerceptionNetwork
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled

FRAMES = 20


@pytest.fixture
def network() -> PerceptionNetwork:
    """A network with large random weights, so that every frame reads differently."""
    torch.manual_seed(0)
    network = PerceptionNetwork((4, 4, 4))
    for weight in network.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return network.eval()


@pytest.fixture
def make_episode() -> Callable[[int], LabelledEpisode]:
    """Seed -> an episode: a red square is where the hand is, a blue one where the handle is."""
    return _squares


def _squares(seed: int) -> LabelledEpisode:
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 52, (FRAMES, 4))
    frames = np.full((FRAMES, 64, 64, 3), 90, np.uint8)
    for frame, (top, left, over, beside) in zip(frames, places, strict=True):
        frame[over : over + 12, beside : beside + 12] = (0, 0, 255)
        frame[top : top + 12, left : left + 12] = (255, 0, 0)
    metres = (places / 260).astype(np.float32)
    hand = np.stack([metres[:, 0], 0.5 + metres[:, 1], metres[:, 0] + metres[:, 1]], axis=1)
    actions = np.zeros((FRAMES - 1, STANDIN_SAWYER.action_size), np.float32)
    return LabelledEpisode(
        frames=frames,
        actions=actions,
        expert_actions=actions,
        success=np.zeros(FRAMES, bool),
        robot=STANDIN_SAWYER.name,
        task="open_drawer",
        instruction="open the drawer",
        behaviour="expert",
        seed=seed,
        state={
            "hand": hand,
            "handle": np.stack([metres[:, 3], metres[:, 3], metres[:, 3]], axis=1),
            "opening": metres[:, 2],
        },
    )


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """A folder with twenty episodes of squares, 400 frames."""
    folder = tmp_path / "episodes"
    folder.mkdir()
    for seed in range(20):
        save_labelled(folder / f"episode_{seed}.npz", _squares(seed))
    return folder
