"""The baseline that repeats the last frame; any model worth its cost predicts better."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from configs.robots import RobotSpec
from world_models.base import FrameNoise, RolloutState, first_unknown
from world_models.frames import check_clip, check_context, to_tensor


class CopyLast:
    """A world in which nothing moves: the next frame is the last one."""

    def __init__(self, robot: RobotSpec, window: int = 8, context_frames: int = 1) -> None:
        """Make a world for one robot that remembers `window` frames."""
        self.robot = robot
        self.window = window
        self.context_frames = context_frames

    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.start`; here a latent is the frame itself."""
        frames, actions = check_context(frames, actions, self.robot, self.window)
        latents = to_tensor(frames)
        return RolloutState(
            frame=latents[:, -1],
            condition=latents[:, 0],
            context=torch.empty(len(frames), 0, 0, 0),
            latents=latents,
            actions=first_unknown(torch.from_numpy(actions)),
        )

    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.step`."""
        taken = torch.from_numpy(self.robot.check_actions(actions))[:, None]
        return replace(
            state,
            latents=torch.cat([state.latents, state.frame[:, None]], 1)[:, -self.window :],
            actions=torch.cat([state.actions, taken], 1)[:, -self.window :],
        )

    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        """See `WorldModel.imagine_clip`."""
        check_clip(frames, actions, self.robot, self.window)
        return np.repeat(frames[:, None], actions.shape[1] + 1, axis=1)
