"""Imagine futures of one start frame by frame; a run folder keeps each frame.

The actions are planned, or a policy chooses them as it acts.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from v2w_gym.interface import RolloutKey
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.starts import Context
from v2w_gym.world_models.base import ClipModel, WorldModel
from v2w_gym.world_models.data.decoding.arrays import reading
from v2w_gym.world_models.data.decoding.pictures import read_picture
from v2w_gym.world_models.files import replacing
from v2w_gym.world_models.saved_state import reading_state, save_state
from v2w_gym.world_models.state import FrameNoise, RolloutState

STATE = "state.pt"


class Course(Protocol):
    """A source of actions for B futures of one start, step by step.

    Attributes:
        futures: Number of futures (B).
        steps: Largest number of actions in each.
        over: Whether the last action ended all of them.
    """

    futures: int
    steps: int
    over: bool

    def choose(self, step: int, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the actions (B, A) that follow the newest frames (B, H, W, 3).

        A resumed run calls this again for the steps that are done.
        """
        ...


class Planned:
    """Planned actions (B, N, A); see `Course`."""

    over = False

    def __init__(self, actions: NDArray[np.float32]) -> None:
        """Take one row of actions per future."""
        self.actions = actions
        self.futures, self.steps = actions.shape[:2]

    def choose(self, step: int, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Course.choose`."""
        return self.actions[:, step]


class Acting:
    """The actions of a policy in one future, until it ends the episode; see `Course`.

    A resumed run gives the policy all frames again, so that its history is the same.
    """

    futures = 1

    def __init__(self, policy: RobotPolicy, steps: int) -> None:
        """Take a policy that has just been reset."""
        self.policy, self.steps = policy, steps
        self.over = False
        self.actions: list[NDArray[np.float32]] = []

    def choose(self, step: int, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Course.choose`."""
        actions = self.policy.act(frames, np.ones(1, np.bool_))
        self.over = bool(self.policy.robot.terminates(actions)[0])
        self.actions.append(actions[0])
        return actions


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        state: The world model's rollout state.
        actions: (N, B, A), the action before each of the N frames imagined so far.
        seconds: Time spent on them.
    """

    state: RolloutState
    actions: Tensor
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Frames imagined so far (N)."""
        return len(self.actions)


def imagine_stepwise(
    folder: Path, model: WorldModel, context: Context, course: Course, key: RolloutKey
) -> float:
    """Follow a course from one start, all B futures with the same noise.

    Each frame is saved in `folder`, so the same call resumes.

    Returns:
        Seconds per step, for all B frames together.

    Raises:
        ValueError: Frames or actions that do not fit the robot, a damaged state, or other actions
            than before an interruption.
    """
    futures, newest = course.futures, len(context.frames) - 1
    state = model.start(
        np.stack([context.frames] * futures),
        np.stack([context.actions] * futures),
        _noise(key, futures, newest),
    )
    none = torch.zeros(0, futures, model.robot.action_size)
    progress = _load_progress(folder, Progress(state, none))
    frames = np.stack([context.frames[-1]] * futures)
    if progress.steps == 0:
        save_frame(folder, 0, frames)
    with tqdm(total=course.steps, initial=progress.steps, unit="frame") as bar:
        for step in range(course.steps):
            if course.over:
                break
            began = time.perf_counter()
            actions = course.choose(step, frames)
            if step < progress.steps:
                _check_repeated(actions, progress.actions[step], step)
                frames = load_frame(folder, futures, step + 1)
                continue
            state = model.step(progress.state, actions, _noise(key, futures, newest + step + 1))
            frames = model.render(state)
            save_frame(folder, step + 1, frames)
            seconds = progress.seconds + time.perf_counter() - began
            done = torch.cat([progress.actions, torch.tensor(actions)[None]])
            progress = Progress(state, done, seconds)
            _save_progress(folder, progress)
            bar.update()
    return progress.seconds / progress.steps


def imagine_at_once(
    folder: Path, model: ClipModel, context: Context, planned: Planned, key: RolloutKey
) -> float:
    """Take planned actions from the newest frame of a start, as whole clips.

    Returns:
        Seconds per step, for all B frames together.

    Raises:
        ValueError: Frames or actions that do not fit the robot, or more than the window holds.
    """
    futures, steps = planned.futures, planned.steps
    noise = _noise(key, futures, len(context.frames) - 1 + steps)
    began = time.perf_counter()
    clips = model.imagine_clip(np.stack([context.frames[-1]] * futures), planned.actions, noise)
    seconds = time.perf_counter() - began
    for step in range(steps + 1):
        save_frame(folder, step, clips[:, step])
    return seconds / steps


def save_frame(folder: Path, step: int, frames: NDArray[np.uint8]) -> None:
    """Save frames (B, H, W, 3) below each other as one picture; it appears whole or not at all."""
    path = _frame_path(folder, step)
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as partial:
        Image.fromarray(np.concatenate(list(frames))).save(partial, "PNG")


def load_frames(folder: Path, futures: int, steps: int) -> NDArray[np.uint8]:
    """Return frames (B, N + 1, H, W, 3): the newest known one, then those imagined in N steps."""
    return np.stack([load_frame(folder, futures, step) for step in range(steps + 1)], axis=1)


def load_frame(folder: Path, futures: int, step: int) -> NDArray[np.uint8]:
    """Return the frames (B, H, W, 3) after `step` steps.

    Raises:
        ValueError: A damaged picture, or one of another number of futures.
    """
    path = _frame_path(folder, step)
    with reading(path, f"frames at {path}", "begin the run again with output=..."):
        return np.stack(np.split(read_picture(path), futures))


def _frame_path(folder: Path, step: int) -> Path:
    return folder / "frames" / f"{step:05d}.png"


def _noise(key: RolloutKey, futures: int, frame: int) -> FrameNoise:
    """Return the noise of one frame, the same for all futures."""
    return FrameNoise((key.seed,) * futures, (key.episode,) * futures, (frame,) * futures)


def _check_repeated(actions: NDArray[np.float32], done: Tensor, step: int) -> None:
    if not np.array_equal(actions, done.numpy()):
        raise ValueError(
            f"expected the actions that were taken in step {step} before the interruption, found "
            "others: the policy does not repeat its actions; begin a new run with output=..."
        )


def _save_progress(folder: Path, progress: Progress) -> None:
    save_state(folder / STATE, {**vars(progress), "state": progress.state.tensors()})


def _load_progress(folder: Path, fresh: Progress) -> Progress:
    """Load the saved progress onto the devices of `fresh`; return `fresh` if there is none."""
    if not (folder / STATE).exists():
        return fresh
    with reading_state(folder / STATE) as saved:
        pairs = zip(saved["state"], fresh.state.tensors(), strict=True)
        state = fresh.state.with_tensors(tensor.to(like.device) for tensor, like in pairs)
        return Progress(state, saved["actions"], saved["seconds"])
