"""Random episodes that compress like those of a camera, for benchmarks without recorded data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.configs.robots import GOOGLE_ROBOT, RobotSpec
from v2w_gym.world_models.data.episode import Episode

DETAIL = (24, 30)
"""Rows and columns of random colours that a picture is enlarged from."""
GRAIN = 6
"""Largest noise of a pixel, in grey levels."""


@dataclass(frozen=True)
class RandomEpisodes:
    """A source of random episodes, in which a picture moves at a steady pace.

    Attributes:
        episodes: Number of episodes.
        length: Frames of each.
        robot: The robot, whose arm moves at random.
        name: See `Source`.
        files: See `Source`.
    """

    episodes: int = 40
    length: int = 40
    robot: RobotSpec = GOOGLE_ROBOT
    name: str = "random episodes"
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return self.episodes

    def ids(self) -> list[str]:
        return [f"random {number}" for number in range(self.episodes)]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        for number in range(self.episodes)[start:stop]:
            rng = np.random.default_rng(number)
            actions = np.tile(self.robot.make_action(), (self.length - 1, 1))
            moved = self.robot.slices["world_vector"]
            actions[:, moved] = rng.uniform(-0.02, 0.02, (self.length - 1, 3))
            yield Episode(f"random {number}", self._frames(rng), actions.astype(np.float32))

    def _frames(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        height, width = self.robot.frame_size
        coarse = Image.fromarray(rng.integers(0, 256, (*DETAIL, 3), np.uint8))
        wide = np.asarray(coarse.resize((width + self.length, height), Image.Resampling.BICUBIC))
        moving = np.stack([wide[:, step : step + width] for step in range(self.length)])
        grain = rng.integers(-GRAIN, GRAIN, moving.shape, np.int8, endpoint=True)
        return np.clip(moving + grain.astype(np.int16), 0, 255).astype(np.uint8)
