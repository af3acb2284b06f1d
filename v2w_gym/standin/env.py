"""The stand-in robot as a Gymnasium environment, with the interface of `Vid2WorldEnv`.

The stand-in takes the place of a real robot. It is a physics simulation (MuJoCo) and needs
`pip install .[standin]`.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import GRIPPER, HAND
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.tasks import TASKS, find_task
from v2w_gym.interface import (
    ActionRule,
    Progress,
    RolloutKey,
    action_space,
    check_options,
    check_render_mode,
    checked_success,
    full_info,
    next_key,
    observation,
    observation_space,
)
from v2w_gym.judges.base import StepJudge
from v2w_gym.judges.loading import DEFAULT, find_judge
from v2w_gym.standin.drawer import drawer_task, margin
from v2w_gym.standin.robot import Sawyer, StandinState, load_mujoco


class StandinEnv(gym.Env[Any, NDArray[np.float32]]):
    """A simulated robot with a camera, interchangeable with `Vid2WorldEnv`.

    It takes the 13 RT-1 action values (`STANDIN_SAWYER`) and returns 64 x 64 frames. Spaces,
    options, reward, endings and `info` are those of `Vid2WorldEnv`. `world_vector` is the commanded
    hand displacement in metres. `gripper_closedness_action` is added to the gripper's command in
    [-1 open, 1 closed].

    By default, success is read from the drawer's true opening. Meta-World's own criterion for
    opening is not used: it requires 0.17 m, which the arm reaches only by bending the rail's soft
    stop, and a camera cannot see the difference.

    A copy (pickle, deepcopy) repeats the actions of the attempt to reach the same state.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 3}
    robot = STANDIN_SAWYER

    def __init__(
        self,
        task: str = "close_drawer",
        *,
        start: int | None = None,
        judge: StepJudge | str | None = DEFAULT,
        strict_actions: bool = False,
        terminate: str = "stop",
        obs_type: str = "frame",
        render_mode: str | None = None,
    ) -> None:
        """Load the simulator.

        Args:
            task: Name of the task; see `v2w_gym.configs.tasks`.
            start: Index of a bundled start; None draws a new start at each reset.
            judge: "default" reads the simulator's state; otherwise as in `Vid2WorldEnv`.
            strict_actions: Raise an error for actions outside the bounds instead of clipping them.
            terminate: Effect of an action's termination value: "stop" ends the attempt, "ignore"
                continues it.
            obs_type: "frame", or "pixels" for `{"pixels": frame}`, which LeRobot expects.
            render_mode: None or "rgb_array".

        Raises:
            ValueError: An argument that is unknown, or of another robot.
            ModuleNotFoundError: The `standin` extra is not installed.
        """
        find_task(task, self.robot.name)
        by_state = isinstance(judge, str) and judge == DEFAULT
        self._judge = judge if by_state else find_judge(judge, self.robot)
        self._rule = ActionRule(self.robot, strict=strict_actions, terminate=terminate)
        self._defaults: dict[str, Any] = {"task": task, "start": start}
        self.render_mode = check_render_mode(render_mode)
        self.action_space = action_space(self.robot)
        self.observation_space = observation_space(self.robot, obs_type)
        self.obs_type = obs_type
        self._sawyers: dict[str, Sawyer] = {}
        self._load(task)
        self._task = TASKS[task]
        self._named = task
        self._key: RolloutKey | None = None
        self._start_seed = _seed_of(start, task)
        self._progress = Progress(judged=self._judge is not None)
        self._frames: list[NDArray[np.uint8]] = []
        self._taken: list[NDArray[np.float32]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an attempt: episode 0 of `seed`, or the next episode of the last seed.

        Args:
            seed: Fixes the initial positions of hand and cabinet, unless a start is named.
            options: May set `task`, `start` or `episode` of this attempt; other names are ignored.

        Raises:
            ValueError: Unknown task or start.
        """
        super().reset(seed=seed)
        chosen: Mapping[str, Any] = {**self._defaults, **check_options(options)}
        task = find_task(chosen["task"], self.robot.name)
        start_seed = _seed_of(chosen["start"], task.name)
        key = next_key(self._key, seed, self.np_random)
        self._key = RolloutKey(key.seed, chosen.get("episode", key.episode))
        self._task, self._start_seed, self._named = task, start_seed, task.name
        self._begin()
        return self._observation(), self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Execute the action (13,) for one control step.

        Raises:
            ValueError: Wrong shape, not finite, or, with `strict_actions`, out of bounds.
            gymnasium.error.ResetNeeded: No reset yet.
        """
        self._check_begun()
        taken = self._rule.clip_one(action)
        self._hold(taken.actions[0])
        self._progress = self._progress.took(self.robot, taken).observed(self._is_solved())
        reward = float(self._progress.success)
        return self._observation(), reward, self._progress.terminated, False, self._info()

    def render(self) -> NDArray[np.uint8]:
        """Return the newest frame (H, W, 3), uint8.

        Raises:
            gymnasium.error.ResetNeeded: No reset yet.
        """
        self._check_begun()
        return self._frames[-1].copy()

    def close(self) -> None:
        """Free the renderers; safe to call twice."""
        for sawyer in self._sawyers.values():
            sawyer.close()

    @property
    def task(self) -> str:
        """Name of the present attempt's task; setting it chooses the next attempt's.

        Raises:
            ValueError: Set to an unknown task, or to a task of another robot.
        """
        return self._named

    @task.setter
    def task(self, name: str) -> None:
        self._named = self._defaults["task"] = find_task(name, self.robot.name).name

    @property
    def start(self) -> int | None:
        """The start of the next attempts, unless `reset` names another one.

        Raises:
            ValueError: Set to an unknown start.
        """
        return self._defaults["start"]

    @start.setter
    def start(self, start: int | None) -> None:
        _seed_of(start, self._defaults["task"])
        self._defaults["start"] = start

    @property
    def task_description(self) -> str:
        """The present attempt's instruction."""
        return self._task.instruction

    @property
    def state(self) -> StandinState:
        """The simulator's state, the ground truth for experts, labels and judges."""
        return self._sawyer.state

    @property
    def solved(self) -> bool:
        """Whether the drawer's opening solves the task now."""
        return bool(margin(self.state.opening, self._task.name) >= 0)

    @property
    def simulator_observation(self) -> NDArray[np.float64]:
        """Meta-World's observation (39,), the input of its expert policies."""
        return self._sawyer.observation

    @property
    def _sawyer(self) -> Sawyer:
        return self._sawyers[self._task.name]

    def _load(self, task: str) -> None:
        if task not in self._sawyers:
            self._sawyers[task] = Sawyer(task, self.robot.frame_size)

    def _begin(self) -> None:
        """Place arm and cabinet at the start of the attempt."""
        self._load(self._task.name)
        self._sawyer.begin(self._start_rng())
        self._frames, self._taken = [self._sawyer.photograph()], []
        self._progress = Progress(judged=self._judge is not None).began(self._is_solved())

    def _start_rng(self) -> np.random.Generator:
        """Return the start's random generator, seeded by a bundled start or by (seed, episode)."""
        if self._start_seed is not None:
            return np.random.default_rng(self._start_seed)
        assert self._key is not None
        seed, episode = self._key.seed, self._key.episode
        return np.random.default_rng([seed, episode] if episode else seed)

    def _hold(self, action: NDArray[np.float32]) -> None:
        """Execute an action (13,) within the bounds, and render the next frame."""
        displacement = action[self.robot.slices[HAND]]
        change = float(action[self.robot.slices[GRIPPER]][0])
        self._sawyer.hold(displacement, change)
        self._taken.append(action)
        self._frames.append(self._sawyer.photograph())

    def _is_solved(self) -> bool:
        if self._judge is None:
            return False
        if isinstance(self._judge, str):
            return self.solved
        return checked_success(self._judge, np.stack(self._frames)[None], self._task.name)[0]

    def _observation(self) -> Any:
        return observation(self.render(), self.obs_type)

    def _info(self) -> dict[str, Any]:
        assert self._key is not None
        info = self._progress.info(self._task, self._key)
        return full_info(info, self.obs_type, self._progress.terminated)

    def _check_begun(self) -> None:
        if self._key is None:
            raise gym.error.ResetNeeded("expected reset() first; call env.reset(seed=...)")

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the simulators, which cannot be pickled."""
        return {**self.__dict__, "_sawyers": {}, "_frames": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load a simulator and repeat the attempt so far."""
        self.__dict__.update(state)
        self._load(self._task.name)
        if self._key is not None:
            progress, taken = self._progress, self._taken
            self._begin()
            for action in taken:
                self._hold(action)
            self._progress = progress


def make_expert(task: str) -> Any:
    """Return Meta-World's own scripted expert: `get_action(simulator_observation)`."""
    load_mujoco()
    from metaworld.policies import ENV_POLICY_MAP

    experts: Mapping[str, Any] = ENV_POLICY_MAP
    return experts[drawer_task(task).simulator]()


def _seed_of(start: int | None, task: str) -> int | None:
    """Return the seed of a bundled start; None for None."""
    from v2w_gym.starts import bundled_start

    if isinstance(start, str):
        raise ValueError(
            f"expected start to be the index of a bundled start, or None, found {start!r}; the "
            "stand-in robot cannot begin from a picture"
        )
    return None if start is None else bundled_start(start, task).seed
