"""Recorded episodes as what RT-1 is trained on: windows of frames with the expert's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from configs.robots import RobotSpec
from policies.instructions import normalise
from policies.rt1.tokenizer import ActionTokenizer
from world_models.data.episodes import Episode, list_episodes, load_episode


@dataclass(frozen=True)
class Demonstrations:
    """N labelled frames of many episodes, one after another.

    The last frame of an episode is left out: nobody acted there.

    Attributes:
        frames: (N, H, W, 3) uint8.
        tokens: (N, A) int64; what the expert would have done there.
        instructions: (N,) normalised text.
        first: (N,) index of the first frame of the same episode.
        last: (N,) index of the last frame of the same episode.
    """

    frames: NDArray[np.uint8]
    tokens: NDArray[np.int64]
    instructions: NDArray[np.str_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """A batch of B windows of T frames.

    Attributes:
        frames: (B, T, H, W, 3) uint8.
        tokens: (B, T, A) int64.
        mask: (B, T) bool; False after the end of a short episode.
        instructions: (B,) normalised text.
    """

    frames: Tensor
    tokens: Tensor
    mask: Tensor
    instructions: NDArray[np.str_]


def load_demonstrations(
    folders: Sequence[str], robot: RobotSpec, tokenizer: ActionTokenizer
) -> Demonstrations:
    """Read every episode below `folders`.

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: A corrupt episode, or one of another robot.
    """
    episodes: list[Episode] = []
    for path in tqdm(list_episodes(folders), desc="reading", unit="episode"):
        episode = load_episode(path)
        if episode.robot != robot.name:
            raise ValueError(f"expected robot {robot.name!r} in {path}, found {episode.robot!r}")
        episodes.append(episode)
    lengths = np.array([len(episode.actions) for episode in episodes])
    ends = np.cumsum(lengths)
    return Demonstrations(
        frames=np.concatenate([episode.frames[:-1] for episode in episodes]),
        tokens=tokenizer.encode(np.concatenate([e.expert_actions for e in episodes])),
        instructions=np.repeat([normalise(e.instruction) for e in episodes], lengths),
        first=np.repeat(ends - lengths, lengths),
        last=np.repeat(ends - 1, lengths),
    )


def sample_windows(
    data: Demonstrations, size: int, history: int, shift: int, rng: np.random.Generator
) -> Windows:
    """Draw `size` windows as a policy's memory holds them at a random step of an episode.

    Until an episode is `history` frames old the memory starts with its first frame; so do the
    windows drawn there, which run on to later frames. All frames of a window are shifted alike.

    Args:
        data: The episodes.
        size: Number of windows (B).
        history: Frames per window (T).
        shift: Largest shift in pixels; the frame's edge is repeated.
        rng: Source of all choices.
    """
    step = rng.integers(len(data.frames), size=size)
    start = np.maximum(data.first[step], step - history + 1)
    wanted = start[:, None] + np.arange(history)  # (B, T)
    index = np.minimum(wanted, data.last[step][:, None])
    height, width = data.frames.shape[1:3]
    offset = rng.integers(-shift, shift + 1, (2, size, 1))
    rows = np.clip(np.arange(height) + offset[0], 0, height - 1)  # (B, H)
    columns = np.clip(np.arange(width) + offset[1], 0, width - 1)  # (B, W)
    frames = data.frames[index[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]]
    return Windows(
        frames=torch.from_numpy(frames),
        tokens=torch.from_numpy(data.tokens[index]),
        mask=torch.from_numpy(wanted == index),
        instructions=data.instructions[step],
    )
