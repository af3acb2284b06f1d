"""Episodes of a drawn robot: a textured square that follows its actions, a little later."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation.data.reading import EpisodeFacts, look_at
from v2w_gym.world_models.data.episode import Episode

ROBOT = STANDIN_SAWYER
HAND = ROBOT.slices["world_vector"]
GRIPPER = ROBOT.slices["gripper_closedness_action"]
SIZE, SQUARE = 64, 18
PIXELS = 60
"""Pixels that the square moves for each metre."""


def draw_episode(seed: int, steps: int = 24, name: str = "") -> Episode:
    """Return an episode: half of each displacement happens in its own step, half in the next."""
    rng = np.random.default_rng(seed)
    actions = np.tile(ROBOT.make_action(), (steps, 1))
    walk = rng.normal(0, 0.03, (steps, 3))
    actions[:, HAND] = np.clip(walk + 0.6 * np.roll(walk, 1, axis=0), -0.05, 0.05)
    actions[steps // 2, GRIPPER] = 1
    motion = actions[:, HAND][:, :2] * PIXELS
    late = np.concatenate([np.zeros((1, 2)), motion[:-1]])
    places = (
        SIZE / 2 - SQUARE / 2 + np.concatenate([[[0, 0]], np.cumsum((motion + late) / 2, axis=0)])
    )
    frames = np.stack([_draw(place) for place in places])
    return Episode(
        name or f"drawn-{seed}",
        frames,
        actions,
        instruction=("open the drawer", "close the drawer")[seed % 3 == 0],
        rate=ROBOT.control_hz,
        robot=ROBOT.name,
        success=np.arange(steps + 1) > steps - seed % 2,
    )


def draw_episodes(count: int, steps: int = 24) -> list[Episode]:
    return [draw_episode(seed, steps) for seed in range(count)]


def look(episodes: list[Episode]) -> list[EpisodeFacts]:
    return [look_at(number, episode) for number, episode in enumerate(episodes)]


def shifted(episode: Episode, late: int) -> Episode:
    """Return the episode with actions that are stored `late` steps after their frames."""
    after, before = max(late, 0), max(-late, 0)
    count = len(episode)
    return replace(
        episode,
        frames=episode.frames[after : count - before],
        actions=episode.actions[before : count - 1 - after],
        success=None,
    )


def with_actions(episode: Episode, place: slice, change) -> Episode:
    """Return the episode with other values in a part of its actions."""
    actions = episode.actions.copy()
    actions[:, place] = change(actions[:, place])
    return replace(episode, actions=actions)


@dataclass(frozen=True)
class Drawn:
    """A source of drawn episodes; those of `damaged` numbers cannot be read."""

    episodes: list[Episode]
    damaged: tuple[int, ...] = ()
    name: str = "drawn"
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.episodes)

    def ids(self) -> list[str]:
        return [episode.id for episode in self.episodes]

    def read(self, start: int = 0, stop: int | None = None):
        for number in range(len(self))[start:stop]:
            if number in self.damaged:
                raise ValueError(f"expected a whole record {number}, found a damaged one")
            yield self.episodes[number]


def _draw(place: np.ndarray) -> np.ndarray:
    """Draw the square with its left upper corner at a place between pixels."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(float)
    floor = 90 + 25 * np.sin(rows / 3) + 25 * np.cos(columns / 4)
    x, y = columns - place[0], rows - place[1]
    inside = np.clip(x + 0.5, 0, 1) * np.clip(SQUARE - x, 0, 1)
    inside *= np.clip(y + 0.5, 0, 1) * np.clip(SQUARE - y, 0, 1)
    square = 170 + 60 * np.sin(x / 2) * np.cos(y / 2)
    grey = floor * (1 - inside) + square * inside
    return np.clip(grey[..., None] * [1, 0.95, 0.8], 0, 255).astype(np.uint8)
