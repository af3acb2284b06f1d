"""The two arms that are timed: steps of the environment, and naive steps of rollouts like them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.evaluation.checks.bench.naive import naive_step
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.base import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World

UNLIMITED = -1


class EnvironmentArm:
    """N environments that share every call of a world model, from a full window on."""

    def __init__(self, model: Vid2World, num_envs: int, recording: Path) -> None:
        """Prepare environments that begin with the frames of a recording.

        Args:
            model: Takes the steps.
            num_envs: N.
            recording: File with `model.window - 1` frames, see `write_recording`.
        """
        self.model = model.with_window(model.window, model.window - 1)
        task = next(iter(tasks_of(model.robot.name)))
        start = str(recording)
        self._envs = Vid2WorldVectorEnv(
            num_envs, UNLIMITED, self.model, task=task, start=start, judge=None
        )
        self._action = np.stack([a_move(model.robot)] * num_envs)
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._envs.reset(seed=0)

    def use_steps(self, steps: int) -> None:
        """Go on with another number of denoising steps."""
        self.model = with_steps(self.model, steps)
        self._envs.setting = replace(self._envs.setting, model=self.model)

    def step(self) -> None:
        """Take one step in every environment."""
        self._envs.step(self._action)


class NaiveArm:
    """N rollouts with a full window, of which every call takes the same naive step."""

    def __init__(self, model: Vid2World, num_envs: int) -> None:
        """Begin with random frames."""
        self.model = model
        state, self._noise = full_window(model, num_envs)
        self._state = replace(state, cache=())
        self._action = torch.from_numpy(np.stack([a_move(model.robot)] * num_envs))

    def use_steps(self, steps: int) -> None:
        """Go on with another number of denoising steps."""
        self.model = with_steps(self.model, steps)

    def step(self) -> None:
        """Take the step, and decode its frames."""
        self.model.render(naive_step(self.model, self._state, self._action, self._noise))


def full_window(model: Vid2World, rollouts: int) -> tuple[RolloutState, FrameNoise]:
    """Return rollouts that have begun with random frames, as many as leave room for one more.

    Returns:
        What the model remembers of them, and the noise of the frame that comes next.
    """
    frames = random_frames(model.robot, model.window - 1)
    unknown = np.full((rollouts, len(frames) - 1, model.robot.action_size), np.nan, np.float32)
    keys = tuple(range(rollouts)), (0,) * rollouts
    noise = FrameNoise(*keys, frames=(len(frames) - 1,) * rollouts)
    state = model.start(np.stack([frames] * rollouts), unknown, noise)
    return state, noise.earlier(-1)


def write_recording(model: Vid2World, folder: Path) -> Path:
    """Write what `EnvironmentArm` begins with."""
    path = folder / "frames.npy"
    np.save(path, random_frames(model.robot, model.window - 1))
    return path


def random_frames(robot: RobotSpec, count: int) -> NDArray[np.uint8]:
    """Return random camera frames (T, H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, *robot.frame_size, 3), np.uint8)


def a_move(robot: RobotSpec) -> NDArray[np.float32]:
    """Return an action (A,) that does something."""
    return next(iter(robot.moves.values()))


def with_steps(model: Vid2World, steps: int) -> Vid2World:
    """Return the model with another number of denoising steps."""
    return model.with_sampler(replace(model.cfg.sampler, steps=steps))
