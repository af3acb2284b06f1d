"""The interface that all environments share: spaces, actions, options and `info`.

Actions, success and endings mean the same in a world model and on the stand-in robot.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import NDArray

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ENDINGS, ROUNDING, ClippedActions, RobotSpec
from v2w_gym.configs.tasks import Task
from v2w_gym.configs.values import is_whole_number
from v2w_gym.judges.base import SOLVED_FRAMES, StepJudge

OBS_TYPES = {"frame": False, "pixels": True}
"""Form of an observation -> whether it is a dict with the key "pixels", as LeRobot expects."""


def action_space(robot: RobotSpec) -> Space[NDArray[np.float32]]:
    """Return the robot's own action bounds: a `Box` (A,) float32.

    A value the robot cannot move gets room for rounding, because Gymnasium warns of equal bounds.
    """
    room = np.where(robot.low == robot.high, ROUNDING, 0).astype(np.float32)
    space = Box(robot.low - room, robot.high + room, dtype=np.float32)
    return cast("Space[NDArray[np.float32]]", space)


def frame_space(robot: RobotSpec) -> Space[NDArray[np.uint8]]:
    """Return the space of camera frames: a `Box` (H, W, 3) uint8."""
    return cast("Space[NDArray[np.uint8]]", Box(0, 255, (*robot.frame_size, 3), np.uint8))


def observation_space(robot: RobotSpec, obs_type: str) -> Space[Any]:
    """Return the space of observations: camera frames, or a `Dict` of them.

    Raises:
        ValueError: An unknown form.
    """
    frames = frame_space(robot)
    return Dict(pixels=frames) if lookup(OBS_TYPES, obs_type, "obs_type") else frames


def observation(frames: NDArray[np.uint8], obs_type: str) -> Any:
    """Return one frame or a batch of frames in the form of `obs_type`."""
    return {"pixels": frames} if OBS_TYPES[obs_type] else frames


def full_info(info: dict[str, Any], obs_type: str, terminated: bool) -> dict[str, Any]:
    """Return the complete `info` of a step; LeRobot reads the last step's in `final_info`."""
    return {**info, "final_info": info} if OBS_TYPES[obs_type] and terminated else info


def check_render_mode(mode: str | None) -> str | None:
    """Return `mode` if it is None or "rgb_array".

    Raises:
        ValueError: Another mode; for "human", make the environment through Gymnasium.
    """
    if mode in (None, "rgb_array"):
        return mode
    raise ValueError(
        f"expected render_mode None or 'rgb_array', found {mode!r}; "
        "gym.make(..., render_mode='human') opens a window around 'rgb_array'"
    )


class ActionRule:
    """Clips actions to a robot's bounds, and warns the first time.

    A wrong shape or a value that is not finite is always an error.
    """

    def __init__(self, robot: RobotSpec, *, strict: bool, terminate: str) -> None:
        """Choose how actions are checked.

        Args:
            robot: The robot that executes them.
            strict: Raise an error for values outside the bounds instead of clipping them.
            terminate: Effect of an action's termination value: "stop" ends the attempt, "ignore"
                continues it.

        Raises:
            ValueError: An unknown `terminate`, or a `strict` that is not True or False.
        """
        if not isinstance(strict, bool):
            raise ValueError(f"expected strict_actions to be True or False, found {strict!r}")
        self._robot = robot
        self._strict = strict
        self._ignores_endings = lookup(ENDINGS, terminate, "terminate")
        self._warned = False

    def clip(self, actions: NDArray[np.float32]) -> ClippedActions:
        """Return actions (B, A) as the robot executes them.

        Raises:
            ValueError: Wrong shape, not finite, or, if strict, outside the bounds.
        """
        if self._strict:
            actions = self._robot.check_actions(actions)
        taken = self._robot.clip_actions(actions)
        if taken.clipped.any():
            self._warn(np.asarray(actions, np.float32), taken)
        if self._ignores_endings:
            return replace(taken, actions=self._robot.ignore_endings(taken.actions))
        return taken

    def clip_one(self, action: NDArray[np.float32]) -> ClippedActions:
        """Return one action (A,) as the robot executes it, as a batch of one.

        Raises:
            ValueError: As `clip`.
        """
        return self.clip(to_numbers(action, (self._robot.action_size,))[None])

    def _warn(self, actions: NDArray[np.float32], taken: ClippedActions) -> None:
        """Warn of the first clipped action; `info` counts all of them."""
        if self._warned:
            return
        self._warned = True
        row, column = (int(i) for i in np.argwhere(taken.clipped)[0])
        warnings.warn(
            f"an action outside the bounds of robot {self._robot.name!r} is clipped: "
            f"{self._robot.value_names[column]} = {actions[row, column]:g}, not in "
            f"[{self._robot.low[column]:g}, {self._robot.high[column]:g}]. Further ones are "
            "counted in info['actions_clipped']; strict_actions=True refuses them",
            stacklevel=4,
        )


def to_numbers(action: object, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return actions as a float32 array of a shape.

    Raises:
        ValueError: No numbers, or another shape.
    """
    what = "an action" if len(shape) == 1 else "actions"
    try:
        numbers = np.asarray(action, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected {what} of shape {shape}, found no numbers: {error}") from error
    if numbers.shape != shape:
        raise ValueError(f"expected {what} of shape {shape}, found {numbers.shape}")
    return numbers


@dataclass(frozen=True)
class RolloutKey:
    """The key of a rollout's random numbers; both values are in [0, 2**63)."""

    seed: int
    episode: int

    def __post_init__(self) -> None:
        """Check that both values are whole numbers within the range."""
        for name, value in (("seed", self.seed), ("episode", self.episode)):
            if not is_whole_number(value) or not 0 <= value < 2**63:
                raise ValueError(f"expected {name} from 0 to 2**63 - 1, found {value!r}")
            object.__setattr__(self, name, int(value))

    def next(self) -> "RolloutKey":
        """Return the key of the rollout that follows when no new seed is given."""
        return RolloutKey(self.seed, self.episode + 1)


@dataclass(frozen=True)
class Progress:
    """The progress of one attempt. It is immutable, so an attempt can be branched from.

    Attributes:
        judged: Whether there is a judge.
        solved_at_start: Whether the task was solved before the first action. Then the attempt
            cannot become a success.
        solved: Number of consecutive solved frames, up to the newest one.
        stopped: Whether the policy's action ended the attempt.
        actions_clipped: Number of actions outside the robot's bounds.
        actions_not_one_hot: Number of actions with a one-hot field that was not one-hot.
    """

    judged: bool
    solved_at_start: bool = False
    solved: int = 0
    stopped: bool = False
    actions_clipped: int = 0
    actions_not_one_hot: int = 0

    def began(self, solved: bool) -> "Progress":
        """Return the progress after the verdict on the first frame."""
        if solved:
            warnings.warn(
                "the task is solved already at the start: this attempt cannot become a success "
                "(info['solved_at_start']); begin from another start",
                stacklevel=2,
            )
        return replace(self, solved_at_start=solved)

    def acted(self, *, stopped: bool, clipped: bool, not_one_hot: bool) -> "Progress":
        """Return the progress after one more action."""
        return replace(
            self,
            stopped=stopped,
            actions_clipped=self.actions_clipped + clipped,
            actions_not_one_hot=self.actions_not_one_hot + not_one_hot,
        )

    def took(self, robot: RobotSpec, taken: ClippedActions) -> "Progress":
        """Return the progress after one more action of `robot`, given as a batch of one."""
        return self.acted(
            stopped=bool(robot.terminates(taken.actions)[0]),
            clipped=bool(taken.clipped.any()),
            not_one_hot=bool(taken.not_one_hot[0]),
        )

    def observed(self, solved: bool) -> "Progress":
        """Return the progress after the verdict on one more frame."""
        return replace(self, solved=self.solved + 1 if solved else 0)

    @property
    def success(self) -> bool:
        """Whether the task has been solved in the newest `SOLVED_FRAMES` frames."""
        return self.solved >= SOLVED_FRAMES and not self.solved_at_start

    @property
    def terminated(self) -> bool:
        """Whether the attempt is over for a reason other than the time limit."""
        return self.success or self.stopped

    def info(self, task: Task, key: RolloutKey) -> dict[str, Any]:
        """Return an environment's `info`.

        Without a judge, it has no keys about success.
        """
        verdict = {
            "success": self.success,
            "is_success": self.success,
            "solved_at_start": self.solved_at_start,
        }
        return {
            "task": task.name,
            "instruction": task.instruction,
            "seed": key.seed,
            "episode_index": key.episode,
            "actions_clipped": self.actions_clipped,
            "actions_not_one_hot": self.actions_not_one_hot,
            **(verdict if self.judged else {}),
        }


def checked_success(judge: StepJudge, frames: NDArray[np.uint8], task: str) -> list[bool]:
    """Return a judge's verdict on the last frame of each of B videos (B, T, H, W, 3), checked.

    Raises:
        ValueError: The judge does not return one bool for each video.
    """
    response: object = judge.success(frames, task)
    if not isinstance(response, np.ndarray):
        found = f"{type(response).__name__}"
    elif response.dtype == np.bool_ and response.shape == (len(frames),):
        return [bool(solved) for solved in response]
    else:
        found = f"{response.dtype} {response.shape}"
    raise ValueError(
        f"expected the judge's `success` to return a bool array of shape ({len(frames)},), found "
        f"{found}; correct {type(judge).__name__}"
    )


def check_options(options: object) -> Mapping[str, Any]:
    """Return the options of a `reset`; {} for None.

    Raises:
        ValueError: Not a mapping.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f"expected options to be a dict or None, found {type(options).__name__}")
    return options


def next_key(previous: RolloutKey | None, seed: int | None, rng: np.random.Generator) -> RolloutKey:
    """Return the key of the next attempt: episode 0 of `seed`, or else the next episode."""
    if seed is not None:
        return RolloutKey(seed, 0)
    if previous is not None:
        return previous.next()
    return RolloutKey(int(rng.integers(2**32)), 0)
