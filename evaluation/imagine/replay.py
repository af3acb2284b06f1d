"""Replay given actions, such as recorded ones, in a world model."""

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
    """Yield the initial state of B rollouts, then the state after each action.

    Args:
        model: The world model.
        frames: (B, K, H, W, 3) initial frames.
        known: (B, K - 1, A) actions between them; NaN where an action is unknown.
        actions: (B, T, A) actions to replay.
        noise: Noise of the newest initial frame.
    """
    state = model.start(frames, known, noise)
    yield state
    for taken in actions.swapaxes(0, 1):
        noise = noise.earlier(-1)
        state = model.step(state, taken, noise)
        yield state
