"""The baseline that repeats the last frame; any model worth its cost predicts better."""

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
    """A world in which nothing moves: the next frame is the last one."""

    def __init__(self, robot: RobotSpec, window: int = 8, context_frames: int = 1) -> None:
        """Make a world for one robot that remembers `window` frames."""
        self.robot = robot
        self.window = window
        self.context_frames = context_frames

    @property
    def card(self) -> Mapping[str, Any]:
        """See `WorldModel`."""
        return card_without_checkpoint(type(self).__name__, self.robot.name, self.window)

    @property
    def fingerprint(self) -> str:
        """See `WorldModel`."""
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
        """See `WorldModel.step`."""
        taken = torch.from_numpy(self.robot.check_actions(actions))
        return state.followed(state.latents[:, -1], taken)

    def render(self, state: RolloutState) -> NDArray[np.uint8]:
        """See `WorldModel.render`."""
        return to_uint8(state.latents[:, -1])

    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        """See `ClipModel.imagine_clip`."""
        check_clip(frames, actions, self.robot, self.window)
        return np.repeat(frames[:, None], actions.shape[1] + 1, axis=1)
