"""Cut a start out of a recorded episode, as the robot's frames and actions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.data import FitSettings
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.fit import fit_episode
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, Misfits, check_robot
from v2w_gym.world_models.data.start_files import Start


def cut_start(
    episode: Episode, step: int, count: int, robot: RobotSpec, settings: FitSettings
) -> tuple[Start, Misfits]:
    """Return the start whose newest frame is frame `step`, and what was corrected in the episode.

    Only the frames of the start are decoded. The actions are checked in the whole episode, because
    a few do not show whether their units are right. Without actions they are unknown.

    Args:
        episode: Episode of a source.
        step: Number of the newest frame, at least `count` - 1.
        count: Number of frames (K).
        robot: The robot.
        settings: How the episode is fitted to it.

    Raises:
        ValueError: The episode is not one of the robot, or lacks a frame after `action_shift`.
    """
    if count == 1:  # one frame has no rate
        settings = replace(settings, rate=robot.control_hz)
    first = step - count + 1
    if episode.actions is None or len(episode) == 1:
        frames = _fit_frames(episode, slice(first, step + 1), robot, settings.fit)
        actions, misfits = np.full((count - 1, robot.action_size), np.nan, np.float32), NO_MISFITS
    else:
        fitted = fit_episode(episode, robot, settings)
        first -= max(-settings.action_shift, 0)
        frames = fitted.episode.frames[first : first + count]
        actions, misfits = fitted.actions[first : first + count - 1], fitted.misfits
    start = Start(
        *(episode.id, frames, actions, step, len(episode)), episode.instruction, episode.task
    )
    return start, misfits


def _fit_frames(
    episode: Episode, place: slice, robot: RobotSpec, resize: bool
) -> NDArray[np.uint8]:
    frames = episode.frames[place]
    if resize and frames.shape[1:3] != robot.frame_size:
        from v2w_gym.world_models.frames import fit  # imports torch

        frames = fit(frames, robot.frame_size)
    check_robot(episode.robot, frames, robot, f"episode {episode.id}")
    return frames
