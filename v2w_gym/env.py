"""One robot imagined by a world model, as a Gymnasium environment."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from configs.robots import RobotSpec
from v2w_gym.actions import ActionRule
from v2w_gym.attempts import Attempt
from v2w_gym.judging import DEFAULT
from v2w_gym.making import ModelChoice, make_setting
from v2w_gym.progress import Judge, check_options, next_key
from v2w_gym.spaces import action_space, check_render_mode, frame_space
from v2w_gym.tasks import TASKS
from world_models.base import WorldModel


class Vid2WorldEnv(gym.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """One attempt at a time at a task, in a world model's imagination.

    The observation is the camera frame (H, W, 3) uint8, the action (A,) float32 in the robot's
    units. Values outside the robot's bounds are clipped; a one-hot field that is not one-hot, such
    as zeros, says nothing and rests. The reward is 1 in the step in which the judge's verdict makes
    the attempt a success, else 0. The attempt terminates there, or when the action asks for it;
    `TimeLimit` truncates it.

    `info` holds, at every reset and step:
        task, instruction: What is attempted.
        seed, episode_index: What fixes, with the start and the actions, every pixel.
        actions_clipped, actions_unsaid: How many actions of the attempt so far were outside the
            bounds, and had a one-hot field that was not one-hot.
        success, is_success: Whether the policy has just solved the task. Absent without a judge.
        solved_at_start: Whether it was solved before; then `success` stays False. Likewise.

    `gym.make("Vid2World-RT1-v0", checkpoint=...)` takes JSON values only; code that holds a model
    or a judge calls this class. The ids say which domain: RT1, CSGO or RECON.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 3}

    def __init__(
        self,
        model: WorldModel | None = None,
        *,
        checkpoint: str | None = None,
        preset: str | None = None,
        sampler: Mapping[str, Any] | None = None,
        window: int | None = None,
        context_frames: int | None = None,
        device: str | None = None,
        robots: Sequence[str] | None = None,
        task: str = "close_drawer",
        start: int | str | None = None,
        judge: Judge | str | None = DEFAULT,
        strict_actions: bool = False,
        terminate: str = "stop",
        render_mode: str | None = None,
    ) -> None:
        """Prepare attempts at one task.

        Args:
            model: The world model; several environments may share it.
            checkpoint: Path or hub id (`owner/name`) of one to load instead; neither means the
                bundled one.
            preset: Which sampler it gets, see `configs.model.preset_sampler`; None for its own.
            sampler: Fields of `configs.model.SamplerConfig` that differ from that.
            window: Most frames the model looks at, the new one included; None for its own.
            context_frames: Recorded frames it begins with; None for its own.
            device: Where it runs, such as "cuda"; None is the CPU.
            robots: Names of the robots the environment is for; None for any.
            task: Name of the task; see `v2w_gym.tasks`.
            start: Index of a bundled start or path of a picture, video or episode, see
                `v2w_gym.starts.load_start`; None draws a bundled start at each reset.
            judge: Decides on success: "default" is the bundled judge for the stand-in robot and
                nobody for others, a path is another judge; see `v2w_gym.judging.find_judge`.
            strict_actions: Refuse actions outside the bounds instead of clipping them.
            terminate: What an action that asks to end the attempt does: "stop" or "ignore".
            render_mode: None or "rgb_array".

        Raises:
            FileNotFoundError: A checkpoint or start that is no file.
            ValueError: Both a model and how to load one, or an argument that is unknown or of
                another robot.
        """
        choice = ModelChoice(checkpoint, preset, sampler, window, context_frames, device, robots)
        self.setting = make_setting(model, choice, task, start, judge)
        self.render_mode = check_render_mode(render_mode)
        robot = self.robot
        self._rule = ActionRule(robot, strict=strict_actions, terminate=terminate)
        self.metadata = {**self.metadata, "render_fps": round(robot.control_hz)}
        self.action_space = action_space(robot)
        self.observation_space = frame_space(robot)
        self._attempt: Attempt | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an attempt: episode 0 of `seed`, or the next episode of the last seed.

        Args:
            seed: Fixes the start that is drawn and everything the world model draws.
            options: May name another `task` or `start`, or the `episode` to begin; other names
                are ignored.

        Raises:
            FileNotFoundError: A start that is no file.
            ValueError: Unknown task or start, or one that is not the robot's.
        """
        chosen = check_options(options)
        super().reset(seed=seed)
        previous = self._attempt.key if self._attempt else None
        key = next_key(previous, seed, self.np_random)
        self._attempt = self.setting.begin([key], [chosen])[0]
        return self._attempt.frames[-1].copy(), self._attempt.info

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Imagine what the camera sees after `action` (A,).

        Raises:
            ValueError: Wrong shape, not finite, or, with `strict_actions`, out of bounds.
            gymnasium.error.ResetNeeded: No reset yet.
        """
        fitted = self._rule.fit_one(action)
        attempt = self.setting.advance([self._begun()], fitted)[0]
        self._attempt = attempt
        frame, reward = attempt.frames[-1].copy(), float(attempt.success)
        return frame, reward, attempt.terminated, False, attempt.info

    def render(self) -> NDArray[np.uint8]:
        """Return the newest frame (H, W, 3), uint8.

        Raises:
            gymnasium.error.ResetNeeded: No reset yet.
        """
        return self._begun().frames[-1].copy()

    @property
    def robot(self) -> RobotSpec:
        """Whose camera and actions these are."""
        return self.setting.model.robot

    @property
    def task(self) -> str:
        """Name of the present attempt's task."""
        return self._attempt.task.name if self._attempt else self.setting.task

    @property
    def task_description(self) -> str:
        """The present attempt's instruction."""
        return TASKS[self.task].instruction

    def _begun(self) -> Attempt:
        if self._attempt is None:
            raise gym.error.ResetNeeded("expected reset() first; call env.reset(seed=...)")
        return self._attempt
