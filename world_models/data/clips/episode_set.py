"""Episodes in memory, and fixed-length windows of them as training batches."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.decoding.array_frames import room_for
from v2w_gym.world_models.data.fit import fit_episode
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, warn_of
from v2w_gym.world_models.data.sources.base import Source


@dataclass(frozen=True)
class EpisodeSet:
    """N frames of many episodes, one after another.

    Attributes:
        frames: (N, H, W, 3) uint8.
        actions: (N, A) float32; the action that led to each frame, NaN at an episode's first frame.
        starts: (E,) index of each episode's first frame.
        ends: (E,) index after each episode's last frame.
        ids: (E,) name of each episode in its source.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Clips:
    """A training batch of B windows of T frames.

    Attributes:
        latents: (B, T, C, h, w).
        condition: (B, C, h, w) latent of each episode's first frame.
        actions: (B, T, A); the action that led to each frame, NaN for none.
    """

    latents: Tensor
    condition: Tensor
    actions: Tensor


def load_episode_set(sources: Mapping[str, Source], robot: RobotSpec) -> EpisodeSet:
    """Read every episode of `sources`, with actions as the robot executes them.

    Memory for all frames is allocated once, and episodes are decoded one at a time.

    Args:
        sources: Recorded data by its name for messages; see `open_sources`.
        robot: The robot.

    Raises:
        FileNotFoundError: A file is gone.
        ValueError: A corrupt episode, one of another robot, or more frames than
            memory holds.
    """
    episodes = [(text, episode) for text, source in sources.items() for episode in source.read()]
    frames, places = room_for([len(episode) for _, episode in episodes], robot.frame_size)
    actions = np.full((len(frames), robot.action_size), np.nan, np.float32)
    misfits = NO_MISFITS
    for (text, episode), place in zip(
        tqdm(episodes, desc="reading", unit="episode"), places, strict=True
    ):
        fitted = fit_episode(episode, robot, origin=f"{episode.id} of {text}")
        frames[place], actions[place][1:] = fitted.episode.frames[:], fitted.actions
        misfits += fitted.misfits
    warn_of(misfits, ", ".join(sources))
    starts, ends = np.array([(place.start, place.stop) for place in places], np.int64).T
    ids = tuple(episode.id for _, episode in episodes)
    return EpisodeSet(frames, actions, starts, ends, ids)


def sample_clips(
    data: EpisodeSet, latents: Tensor, size: int, length: int, rng: np.random.Generator
) -> Clips:
    """Draw `size` windows of `length` frames, uniformly over episodes and then over positions.

    A window's first frame has no action, as at the start of a rollout, only if it is the first of
    its episode.

    Args:
        data: The episodes.
        latents: (N, C, h, w) of all their frames.
        size: Number of windows (B).
        length: Frames per window (T).
        rng: Random generator.

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
    """Return the indices of the episodes with at least `length` frames.

    Raises:
        ValueError: No such episode.
    """
    found = np.flatnonzero(data.ends - data.starts >= length)
    if not len(found):
        raise ValueError(
            f"expected episodes of at least {length} frames, found at most "
            f"{int((data.ends - data.starts).max())}; lower denoiser.clip_frames"
        )
    return found
