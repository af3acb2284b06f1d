"""Recorded episodes in memory, and prepared folders of them, for tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from v2w_gym.configs.robots import STANDIN_SAWYER, RobotSpec
from v2w_gym.world_models.data.episode import Episode


def make_episode(
    number: int, length: int = 40, robot: RobotSpec = STANDIN_SAWYER, **changes: object
) -> Episode:
    """Return an episode of noise; frames, actions and text depend on its number."""
    rng = np.random.default_rng(number)
    actions = np.tile(robot.make_action(), (length - 1, 1))
    hand = robot.slices["world_vector"]
    actions[:, hand] = rng.uniform(-0.05, 0.05, (length - 1, 3))
    return Episode(
        **{
            "id": f"episode {number}",
            "frames": rng.integers(0, 256, (length, *robot.frame_size, 3), np.uint8),
            "actions": actions.astype(np.float32),
            "instruction": ("open drawer", "close drawer", None)[number % 3],
            "task": f"task {number % 2}",
            "success": np.arange(length) >= length - 3,
            **changes,
        }
    )


@dataclass(frozen=True)
class InMemory:
    """Episodes in memory as a source."""

    episodes: Sequence[Episode]
    name: str = "in memory"
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.episodes)

    def ids(self) -> list[str]:
        """Return the names of the episodes."""
        return [episode.id for episode in self.episodes]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield some episodes."""
        yield from self.episodes[start:stop]
