"""Episodes in memory, and fixed-length windows of them as training batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from configs.robots import RobotSpec
from world_models.data.episodes import list_episodes, load_episode


@dataclass(frozen=True)
class EpisodeSet:
    """N frames of many episodes, one after another.

    Attributes:
        frames: (N, H, W, 3) uint8.
        actions: (N, A) float32; the action that led to the frame, NaN at an episode's first frame.
        starts: (E,) index of each episode's first frame.
        ends: (E,) index after each episode's last frame.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True)
class Clips:
    """A training batch of B windows of T frames.

    Attributes:
        latents: (B, T, C, h, w).
        condition: (B, C, h, w) latent of each episode's first frame.
        actions: (B, T, A); the action that led to each frame, NaN where none did.
    """

    latents: Tensor
    condition: Tensor
    actions: Tensor


def load_episode_set(folders: Sequence[str], robot: RobotSpec) -> EpisodeSet:
    """Read every episode below `folders`.

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: A corrupt episode, or one of another robot.
    """
    frames, actions, lengths = [], [], []
    for path in tqdm(list_episodes(folders), desc="reading", unit="episode"):
        episode = load_episode(path)
        if episode.robot != robot.name:
            raise ValueError(f"expected robot {robot.name!r} in {path}, found {episode.robot!r}")
        frames.append(episode.frames)
        none = np.full((1, robot.action_size), np.nan, np.float32)
        actions.append(np.concatenate([none, episode.actions]))
        lengths.append(len(episode.frames))
    ends = np.cumsum(lengths, dtype=np.int64)
    return EpisodeSet(
        np.concatenate(frames), np.concatenate(actions), ends - np.array(lengths), ends
    )


def sample_clips(
    data: EpisodeSet, latents: Tensor, size: int, length: int, rng: np.random.Generator
) -> Clips:
    """Draw `size` windows of `length` frames, uniformly over episodes and then over positions.

    The first frame of a window is told no action, as at the start of a rollout, only where the
    episode starts there.

    Args:
        data: The episodes.
        latents: (N, C, h, w) of all their frames.
        size: Number of windows (B).
        length: Frames per window (T).
        rng: Source of the choice.

    Raises:
        ValueError: No episode is long enough.
    """
    episodes = rng.choice(long_enough(data, length), size)
    first = rng.integers(data.starts[episodes], data.ends[episodes] - length + 1)
    rows = torch.from_numpy(first[:, None] + np.arange(length))  # (B, T)
    return Clips(
        latents[rows],
        latents[torch.from_numpy(data.starts[episodes])],
        torch.from_numpy(data.actions[rows.numpy()]),
    )


def long_enough(data: EpisodeSet, length: int) -> NDArray[np.int64]:
    """Return the numbers of the episodes that hold a window of `length` frames.

    Raises:
        ValueError: None does.
    """
    found = np.flatnonzero(data.ends - data.starts >= length)
    if not len(found):
        raise ValueError(
            f"expected episodes of at least {length} frames, found at most "
            f"{int((data.ends - data.starts).max())}; lower denoiser.clip_frames"
        )
    return found
