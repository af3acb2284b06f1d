"""The baseline that repeats the last frame; a useful world model must beat it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.checkpoint import card_without_checkpoint, fingerprint_of
from v2w_gym.world_models.frames import check_clip, check_context, to_tensor, to_uint8
from v2w_gym.world_models.state import FrameNoise, RolloutState, begin_state


class CopyLast:
    """A world model in which nothing moves: the next frame equals the last one."""

    def __init__(self, robot: RobotSpec, window: int = 8, context_frames: int = 1) -> None:
        """Make a model of one robot, with a state of `window` frames."""
        self.robot = robot
        self.window = window
        self.context_frames = context_frames

    @property
    def card(self) -> Mapping[str, Any]:
        return card_without_checkpoint(type(self).__name__, self.robot.name, self.window)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.card)

    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.start`; here a latent is the frame itself."""
        frames, actions = check_context(frames, actions, self.robot, self.window)
        return begin_state(to_tensor(frames), torch.from_numpy(actions), self.window)

    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        taken = torch.from_numpy(self.robot.check_actions(actions))
        return state.followed(state.latents[:, -1], taken)

    def render(self, state: RolloutState) -> NDArray[np.uint8]:
        return to_uint8(state.latents[:, -1])

    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        check_clip(frames, actions, self.robot, self.window)
        return np.repeat(frames[:, None], actions.shape[1] + 1, axis=1)
