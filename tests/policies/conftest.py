"""Small networks and episodes that are quick to make."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks import TINY_RT1
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.configs.train import AdamConfig, TrainPolicyConfig
from v2w_gym.policies.instructions import InstructionTable, make_table
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled

INSTRUCTIONS = ("close the drawer", "open the drawer")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> RT1Config:
    return TINY_RT1


@pytest.fixture
def table(tiny: RT1Config) -> InstructionTable:
    return make_table(INSTRUCTIONS, tiny.instruction_size)


@pytest.fixture
def network(tiny: RT1Config) -> RT1Network:
    """A network with large random weights, so that every input matters to its choices."""
    torch.manual_seed(0)
    network = RT1Network(tiny, action_tokens=11)
    for name, weight in network.named_parameters():
        if weight.ndim > 1 and "positions" not in name:
            weight.data += 0.8 * torch.randn_like(weight)
    with torch.no_grad():
        for _ in range(20):  # batch norms learn the size of what they see
            noise = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
            network.encode(noise, torch.randn(8, tiny.instruction_size) / 3)
    return network.eval()


@pytest.fixture
def frames() -> np.ndarray:
    """Nine frames of three slots: (9, 3, 64, 64, 3)."""
    return np.random.default_rng(0).integers(0, 256, (9, 3, 64, 64, 3), np.uint8)


def write_episode(path: Path, steps: int, instruction: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    robot = STANDIN_SAWYER
    actions = np.stack(
        [
            robot.make_action(world_vector=rng.uniform(-0.05, 0.05, 3).astype(np.float32))
            for _ in range(steps)
        ]
    )
    episode = LabelledEpisode(
        frames=np.full((steps + 1, 64, 64, 3), 100 * seed, np.uint8)
        + np.arange(steps + 1, dtype=np.uint8)[:, None, None, None],
        actions=actions,
        expert_actions=actions[::-1].copy(),
        success=np.zeros(steps + 1, bool),
        robot=robot.name,
        task="close_drawer",
        instruction=instruction,
        behaviour="expert",
        seed=seed,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_labelled(path, episode)


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """A folder with one episode of 8 steps and one of 3, shorter than the policy's memory."""
    folder = tmp_path / "episodes"
    write_episode(folder / "episode_0.npz", 8, "Close the drawer.", seed=0)
    write_episode(folder / "episode_1.npz", 3, "open the drawer", seed=1)
    return folder


@pytest.fixture
def train_cfg(tiny: RT1Config, episodes: Path, tmp_path: Path) -> TrainPolicyConfig:
    return TrainPolicyConfig(
        output=str(tmp_path / "run"),
        weights=str(tmp_path / "weights"),
        episodes=[str(episodes)],
        held_out=[str(episodes)],
        stages={"early": 0.25, "end": 1.0},
        network=asdict(tiny),
        steps=4,
        batch_size=4,
        optimiser=AdamConfig(warmup=2),
        save_every=2,
        held_out_windows=8,
    )
