"""Replay actions that are known beforehand, such as recorded ones, in a world model."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.state import FrameNoise, RolloutState


def replay(
    model: WorldModel,
    frames: NDArray[np.uint8],
    known: NDArray[np.float32],
    actions: NDArray[np.float32],
    noise: FrameNoise,
) -> Iterator[RolloutState]:
    """Yield the state in which B rollouts begin, and the one after each action.

    Args:
        model: The world model.
        frames: (B, K, H, W, 3) that they begin with.
        known: (B, K - 1, A) actions between those; NaN where one is not known.
        actions: (B, T, A) actions from there on.
        noise: Of the newest of the frames.
    """
    state = model.start(frames, known, noise)
    yield state
    for taken in actions.swapaxes(0, 1):
        noise = noise.earlier(-1)
        state = model.step(state, taken, noise)
        yield state
