"""A robot that a world model imagines, as a Gymnasium environment."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from v2w_gym.attempts import Attempt, Plan
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import TASKS, find_task, tasks_of
from v2w_gym.configs.world_model import WorldModelSettings
from v2w_gym.interface import (
    ActionRule,
    RolloutKey,
    action_space,
    check_options,
    check_render_mode,
    full_info,
    next_key,
    observation,
    observation_space,
)
from v2w_gym.judges.base import StepJudge
from v2w_gym.judges.loading import DEFAULT
from v2w_gym.making import choose_model, make_simulation
from v2w_gym.starts import load_start
from v2w_gym.world_models.base import WorldModel


class Vid2WorldEnv(gym.Env[Any, NDArray[np.float32]]):
    """Attempts at a task in a world model, one at a time.

    The observation is the camera frame (H, W, 3) uint8. The action (A,) float32 is in the robot's
    units. Values outside the robot's bounds are clipped. A one-hot field that is not one-hot, such
    as zeros, is set to rest. The reward is 1 in the step in which the judge's verdict makes the
    attempt a success, else 0. This step terminates the attempt, and so does an action with the
    termination value. `TimeLimit` truncates the attempt.

    `info` has these keys after every reset and step:
        task, instruction: Name and instruction of the task.
        seed, episode_index: With the start and the actions, they fix every pixel.
        actions_clipped: Number of actions outside the bounds in this attempt.
        actions_not_one_hot: Number of actions with a one-hot field that was not one-hot.
        success, is_success: Whether the policy has just solved the task. Absent without a judge.
        solved_at_start: Whether the task was solved before the first action. Then `success` stays
            False. Absent without a judge.
        final_info: A copy of `info`, only in the step that terminates the attempt and only with
            `obs_type="pixels"`. LeRobot reads success there.

    `gym.make("Vid2World-RT1-v0", checkpoint=...)` takes JSON values only. Code with a model or a
    judge in hand calls this class. There is one id for each domain: RT1, Bridge, CSGO
    and RECON.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 3}

    def __init__(
        self,
        model: WorldModel | WorldModelSettings | None = None,
        *,
        robots: Sequence[str] | None = None,
        task: str | None = None,
        start: int | str | None = None,
        judge: StepJudge | str | None = DEFAULT,
        strict_actions: bool = False,
        terminate: str = "stop",
        obs_type: str = "frame",
        render_mode: str | None = None,
        **world_model: Any,
    ) -> None:
        """Prepare attempts at one task.

        Args:
            model: The world model, which several environments may share, or settings that load
                one; None to use `world_model`.
            robots: Names of the environment's robots; None for any.
            task: Name of the task; see `v2w_gym.configs.tasks`. None is the robot's first, with
                the instruction that was recorded if the start has one.
            start: Number of a bundled start, or recorded data: a picture, video or episode, or one
                of several as in "starts.npz#3"; see `v2w_gym.starts.load_start`. None draws a
                bundled start at each reset.
            judge: "default" is the robot's bundled judge, or no judge if it has none. A path or an
                object is another judge; see `v2w_gym.judges.loading.find_judge`.
            strict_actions: Raise an error for actions outside the bounds instead of clipping them.
            terminate: Effect of an action's termination value: "stop" ends the attempt, "ignore"
                continues it.
            obs_type: "frame", or "pixels" for `{"pixels": frame}`, which LeRobot expects.
            render_mode: None or "rgb_array".
            world_model: Fields of `WorldModelSettings` by name, such as checkpoint="owner/name",
                preset="draft", sampler={"steps": 10} or device="cuda". Without a checkpoint, the
                bundled world model is loaded.

        Raises:
            FileNotFoundError: No such checkpoint or start.
            TypeError: An argument of an unknown name.
            ValueError: Both a model and settings that load one, or an argument that is unknown or
                of another robot.
        """
        chosen = choose_model(model, world_model, Vid2WorldEnv)
        self.simulation = make_simulation(chosen, robots, task, start, judge)
        self.render_mode = check_render_mode(render_mode)
        robot = self.robot
        self._rule = ActionRule(robot, strict=strict_actions, terminate=terminate)
        self.metadata = {**self.metadata, "render_fps": round(robot.control_hz)}
        self.action_space = action_space(robot)
        self.observation_space = observation_space(robot, obs_type)
        self.obs_type = obs_type
        self._attempt: Attempt | None = None
        self._is_task_named = task is not None
        self._task = self._next_task = task or next(iter(tasks_of(robot.name)))
        self._start = start

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an attempt: episode 0 of `seed`, or the next episode of the last seed.

        Args:
            seed: Seed of the start and of the world model's noise.
            options: May set `task`, `start` or `episode` of this attempt; other names are ignored.

        Raises:
            FileNotFoundError: The start is a path without a file.
            ValueError: Unknown task or start, or one of another robot.
        """
        plan = self._plan(seed, check_options(options))
        self._begin(self.simulation.begin([plan])[0])
        return self._observation(), self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Imagine the camera frame after `action` (A,).

        Raises:
            ValueError: Wrong shape, not finite, or, with `strict_actions`, out of bounds.
            gymnasium.error.ResetNeeded: No reset yet.
        """
        taken = self._rule.clip_one(action)
        attempt = self.simulation.advance([self.attempt], taken)[0]
        self._attempt = attempt
        reward = float(attempt.progress.success)
        return self._observation(), reward, attempt.progress.terminated, False, self._info()

    def render(self) -> NDArray[np.uint8]:
        """Return the newest frame (H, W, 3), uint8.

        Raises:
            gymnasium.error.ResetNeeded: No reset yet.
        """
        return self.attempt.frames[-1].copy()

    @property
    def attempt(self) -> Attempt:
        """The present attempt, which is immutable: a step makes a new one.

        Raises:
            gymnasium.error.ResetNeeded: No reset yet.
        """
        if self._attempt is None:
            raise gym.error.ResetNeeded("expected reset() first; call env.reset(seed=...)")
        return self._attempt

    @property
    def robot(self) -> RobotSpec:
        """The robot that the world model imagines."""
        return self.simulation.model.robot

    @property
    def task(self) -> str:
        """Name of the present attempt's task; setting it chooses the next attempt's.

        Raises:
            ValueError: Set to an unknown task, or to a task of another robot.
        """
        return self._task

    @task.setter
    def task(self, name: str) -> None:
        find_task(name, self.robot.name)
        self._task = self._next_task = name
        self._is_task_named = True

    @property
    def task_description(self) -> str:
        """The present attempt's instruction."""
        task = self._attempt.task if self._attempt else TASKS[self._next_task]
        return task.instruction

    @property
    def start(self) -> int | str | None:
        """The start of the next attempts, unless `reset` names another one.

        Raises:
            FileNotFoundError: Set to a path without a file.
            ValueError: Set to an unknown start, or to a start of another robot.
        """
        return self._start

    @start.setter
    def start(self, start: int | str | None) -> None:
        if start is not None:
            load_start(start, self._next_task, self.robot, self.simulation.model.context_frames)
        self._start = start

    def _plan(self, seed: int | None, options: Mapping[str, Any]) -> Plan:
        super().reset(seed=seed)
        previous = self._attempt.key if self._attempt else None
        key = next_key(previous, seed, self.np_random)
        key = RolloutKey(key.seed, options.get("episode", key.episode))
        task = find_task(options.get("task", self._next_task), self.robot.name)
        named = self._is_task_named or "task" in options
        return Plan(key, task, options.get("start", self._start), task_instruction=named)

    def _begin(self, attempt: Attempt) -> None:
        self._attempt, self._task = attempt, attempt.task.name

    def _observation(self) -> Any:
        return observation(self.attempt.frames[-1].copy(), self.obs_type)

    def _info(self) -> dict[str, Any]:
        attempt = self.attempt
        return full_info(attempt.info, self.obs_type, attempt.progress.terminated)
