"""The baseline that repeats the last frame; any model worth its cost predicts better."""

import numpy as np
import torch
from numpy.typing import NDArray

from configs.robots import RobotSpec
from world_models.base import FrameNoise, RolloutState
from world_models.frames import check_frames, to_tensor


class CopyLast:
    """A world in which nothing moves: the next frame is the last one."""

    def __init__(self, robot: RobotSpec, window: int = 8) -> None:
        """Make a world for one robot that remembers `window` frames."""
        self.robot = robot
        self.window = window

    def start(self, frames: NDArray[np.uint8]) -> RolloutState:
        """See `WorldModel.start`; here a latent is the frame itself."""
        frame = to_tensor(check_frames(frames, self.robot))
        no_action = torch.full((len(frame), 1, self.robot.action_size), float("nan"))
        return RolloutState(frame, frame, frame[:, None], no_action)

    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.step`."""
        taken = torch.from_numpy(self.robot.check_actions(actions))[:, None]
        return RolloutState(
            frame=state.frame,
            condition=state.condition,
            latents=torch.cat([state.latents, state.frame[:, None]], 1)[:, -self.window :],
            actions=torch.cat([state.actions, taken], 1)[:, -self.window :],
        )
