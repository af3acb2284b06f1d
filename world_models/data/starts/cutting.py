"""Cut a start out of a recorded episode, as the robot's frames and actions."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.data import FitSettings
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.fit import fit_episode, fit_frames
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, Misfits
from v2w_gym.world_models.data.starts.files import Start


@dataclass(frozen=True)
class CutStart:
    """A start, and what else its episode tells.

    Attributes:
        start: The start.
        camera: Name of the camera in the source; "" if there is only one.
        misfits: Counts of corrected actions in the whole episode.
        at_rest: The robot's action fields that the source lacks; they do nothing.
    """

    start: Start
    camera: str
    misfits: Misfits = NO_MISFITS
    at_rest: tuple[str, ...] = ()


def cut_start(
    episode: Episode, step: int, count: int, robot: RobotSpec, settings: FitSettings
) -> CutStart:
    """Return the start whose newest frame is frame `step` of an episode.

    Only the frames of the start are decoded. Actions are checked in the whole episode, because a
    few do not show whether their units are right. Without recorded actions they are unknown.

    Args:
        episode: Episode of a source.
        step: Number of the newest frame, at least `count` - 1.
        count: Number of frames (K).
        robot: The robot.
        settings: How the episode is fitted to it.

    Raises:
        ValueError: The episode is not one of the robot, or has no action between two of the frames
            after `settings.action_shift`.
    """
    if count == 1:  # a single frame has no rate, and no action that could be late
        settings = replace(settings, rate=robot.control_hz, action_shift=0)
    place = slice(step - count + 1, step + 1)
    if episode.actions is None or len(episode) == 1:
        frames = fit_frames(episode, place, robot, settings.fit)[:]
        unknown = np.full((count - 1, robot.action_size), np.nan, np.float32)
        return CutStart(_to_start(episode, step, frames, unknown), episode.camera)
    fitted = fit_episode(episode, robot, settings)
    place = _in_fitted(place, settings.action_shift, len(fitted.episode), episode.id)
    frames, actions = fitted.episode.frames[place], fitted.actions[place][: count - 1]
    start = _to_start(episode, step, frames, actions)
    return CutStart(start, episode.camera, fitted.misfits, fitted.at_rest)


def _to_start(
    episode: Episode, step: int, frames: NDArray[np.uint8], actions: NDArray[np.float32]
) -> Start:
    length, instruction, task = len(episode), episode.instruction, episode.task
    return Start(episode.id, frames, actions, step, length, instruction, task)


def _in_fitted(place: slice, shift: int, length: int, name: str) -> slice:
    """Return where frames of an episode are in the fitted one, which lacks some if they shift."""
    early = max(-shift, 0)
    if place.start < early or place.stop - early > length:
        raise ValueError(
            f"expected frames from {early} to {early + length - 1} of episode {name!r}, which have "
            f"actions with action_shift={shift}, found {place.start} to {place.stop - 1}; choose "
            "another at"
        )
    return slice(place.start - early, place.stop - early)
