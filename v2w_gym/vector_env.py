"""Many robots imagined at once by one world model, as a Gymnasium vector environment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from configs.lookup import hint, lookup
from configs.robots import FittedActions, RobotSpec
from v2w_gym.actions import ActionRule, to_numbers
from v2w_gym.attempts import Attempt
from v2w_gym.judging import DEFAULT
from v2w_gym.making import ModelChoice, make_setting
from v2w_gym.progress import Judge, check_options, next_key
from v2w_gym.spaces import action_space, check_render_mode, frame_space
from v2w_gym.tasks import TASKS
from world_models.base import WorldModel

AUTORESET_MODES = {mode.value: mode for mode in AutoresetMode}


class Vid2WorldVectorEnv(VectorEnv[NDArray[np.uint8], NDArray[np.float32], NDArray[Any]]):
    """`num_envs` attempts that share every call of the world model.

    Slot i behaves as `Vid2WorldEnv` does with the same seed and episode, whatever the other slots
    do. Slots may attempt different tasks from different starts, and need not be in step.

    Autoreset follows Gymnasium, except that in DISABLED mode a slot that is done may be stepped:
    it stays as it ended, its action is not looked at, its reward is 0, and it costs nothing.
    """

    metadata: dict[str, Any] = {
        "render_modes": ["rgb_array"],
        "render_fps": 3,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        max_episode_steps: int,
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
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        """Prepare `num_envs` slots; what is not named here is as in `Vid2WorldEnv`.

        Args:
            num_envs: Number of slots.
            max_episode_steps: Steps after which an attempt is truncated; -1 for no limit.
            model: As in `Vid2WorldEnv`, like the arguments up to `render_mode`.
            checkpoint: See there.
            preset: See there.
            sampler: See there.
            window: See there.
            context_frames: See there.
            device: See there.
            robots: See there.
            task: See there.
            start: See there.
            judge: See there.
            strict_actions: See there.
            terminate: See there.
            render_mode: See there.
            autoreset_mode: When a slot that is done begins its next attempt.

        Raises:
            FileNotFoundError: A checkpoint or start that is no file.
            ValueError: An argument that is unknown or out of range.
        """
        counts = isinstance(num_envs, int) and isinstance(max_episode_steps, int)
        if not counts or num_envs < 1 or (max_episode_steps < 1 and max_episode_steps != -1):
            raise ValueError(
                "expected num_envs >= 1 and max_episode_steps >= 1 (or -1 for no limit), found "
                f"num_envs={num_envs!r}, max_episode_steps={max_episode_steps!r}"
            )
        self.num_envs = num_envs
        choice = ModelChoice(checkpoint, preset, sampler, window, context_frames, device, robots)
        self.setting = make_setting(model, choice, task, start, judge)
        self.render_mode = check_render_mode(render_mode)
        self.autoreset_mode = (
            lookup(AUTORESET_MODES, autoreset_mode, "autoreset_mode")
            if isinstance(autoreset_mode, str)
            else autoreset_mode
        )
        robot = self.robot
        self._rule = ActionRule(robot, strict=strict_actions, terminate=terminate)
        self.metadata = {
            **self.metadata,
            "render_fps": round(robot.control_hz),
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_action_space = action_space(robot)
        self.single_observation_space = frame_space(robot)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._max_episode_steps = max_episode_steps
        self._slots: list[Attempt | None] = [None] * num_envs

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an attempt in every slot, or in those of `options["reset_mask"]`.

        Args:
            seed: A number gives slot i `seed + i`; a list gives each slot its own; see
                `Vid2WorldEnv.reset`.
            options: `start`, `task` and `episode` hold for every slot; the lists `starts`,
                `tasks` and `episodes` have one value per slot. `reset_mask` (num_envs,) bool
                leaves the slots that are False alone. Other names are ignored.

        Raises:
            FileNotFoundError: A start that is no file.
            ValueError: Unknown task or start, or a list or mask of another length.
            gymnasium.error.ResetNeeded: A mask that leaves out a slot that never began.
        """
        named = check_options(options)
        super().reset(seed=seed if isinstance(seed, int) else None)
        seeds = self._seeds(seed)
        chosen = self._options_per_slot(named)
        rows = self._masked(named.get("reset_mask"))
        self._begin(rows, seeds, chosen)
        return self._frames(), self._infos({}, rows)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Take `actions` (num_envs, A), one in each slot.

        Raises:
            ValueError: Wrong shape, or in a running slot not finite or, with `strict_actions`, out
                of bounds.
            gymnasium.error.ResetNeeded: No reset yet.
        """
        terminated, truncated = self._endings()
        over = terminated | truncated
        running = np.flatnonzero(~over).tolist()
        self._advance(running, self._fitted(actions, over))
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin_next(np.flatnonzero(over).tolist())
        rewards = np.zeros(self.num_envs)
        rewards[running] = [self._attempts[row].success for row in running]
        terminated, truncated = self._endings()
        if self.autoreset_mode is AutoresetMode.DISABLED:
            self._close(np.flatnonzero(terminated | truncated).tolist())
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            ended = np.flatnonzero(terminated | truncated).tolist()
            for row in ended:
                last = self._attempts[row]
                final = {"final_obs": last.frames[-1].copy(), "final_info": last.info}
                infos = self._add_info(infos, final, row)
            self._begin_next(ended)
        infos = self._infos(infos, range(self.num_envs))
        return self._frames(), rewards, terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Return the newest frame (H, W, 3), uint8, of each slot."""
        return tuple(self._frames())

    def call(self, name: str) -> tuple[Any, ...]:
        """Return, for each slot, what `name` gives in `Vid2WorldEnv`; LeRobot reads a few.

        Raises:
            AttributeError: A name that is not offered.
        """
        offered: Mapping[str, Callable[[], Sequence[Any]]] = {
            "task": self._tasks,
            "task_description": lambda: [TASKS[task].instruction for task in self._tasks()],
            "_max_episode_steps": lambda: [self._max_episode_steps] * self.num_envs,
            "render": self.render,
        }
        if name not in offered:
            raise AttributeError(
                f"expected one of {list(offered)}, found {name!r}{hint(name, list(offered))}"
            )
        return tuple(offered[name]())

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Do what `call` does."""
        return self.call(name)

    @property
    def robot(self) -> RobotSpec:
        """Whose camera and actions these are."""
        return self.setting.model.robot

    @property
    def _attempts(self) -> list[Attempt]:
        attempts = [slot for slot in self._slots if slot is not None]
        if len(attempts) < self.num_envs:
            raise gym.error.ResetNeeded("expected reset() of every slot first; call env.reset()")
        return attempts

    def _tasks(self) -> list[str]:
        return [slot.task.name if slot else self.setting.task for slot in self._slots]

    def _frames(self) -> NDArray[np.uint8]:
        return np.stack([attempt.frames[-1] for attempt in self._attempts])

    def _infos(self, infos: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
        for row in rows:
            infos = self._add_info(infos, self._attempts[row].info, row)
        return infos

    def _endings(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which slots are terminated and which truncated, (num_envs,) each."""
        attempts = self._attempts
        return (
            np.array([attempt.terminated for attempt in attempts]),
            np.array([attempt.steps == self._max_episode_steps for attempt in attempts]),
        )

    def _fitted(self, actions: NDArray[np.float32], over: NDArray[np.bool_]) -> FittedActions:
        """Return the actions as they are taken; those of slots that are over do not matter."""
        actions = to_numbers(actions, (self.num_envs, self.robot.action_size)).copy()
        actions[over] = self.robot.make_action()
        return self._rule.fit(actions)

    def _advance(self, rows: Sequence[int], fitted: FittedActions) -> None:
        newer = self.setting.advance([self._attempts[row] for row in rows], fitted.select(rows))
        for row, attempt in zip(rows, newer, strict=True):
            self._slots[row] = attempt

    def _close(self, rows: Sequence[int]) -> None:
        """Let go of what slots that are done for good would need to go on."""
        for row in rows:
            self._slots[row] = self._attempts[row].closed()

    def _begin_next(self, rows: Sequence[int]) -> None:
        if rows:
            self._begin(rows, [None] * self.num_envs, [{}] * self.num_envs)

    def _begin(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None],
        options: Sequence[Mapping[str, Any]],
    ) -> None:
        previous = [slot.key if slot else None for slot in self._slots]
        keys = [next_key(previous[row], seeds[row], self.np_random) for row in rows]
        begun = self.setting.begin(keys, [options[row] for row in rows])
        for row, attempt in zip(rows, begun, strict=True):
            self._slots[row] = attempt

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int):
            return [seed + i for i in range(self.num_envs)]
        return self._one_per_slot("seed", seed)

    def _options_per_slot(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        per_slot = [dict(options) for _ in range(self.num_envs)]
        for name in ("start", "task", "episode"):
            if name + "s" in options:
                values = self._one_per_slot(name + "s", options[name + "s"])
                for chosen, value in zip(per_slot, values, strict=True):
                    chosen[name] = value
        return per_slot

    def _one_per_slot(self, name: str, values: Sequence[Any]) -> Sequence[Any]:
        if len(values) != self.num_envs:
            raise ValueError(
                f"expected one value of {name} for each of {self.num_envs} slots, "
                f"found {len(values)}"
            )
        return values

    def _masked(self, mask: NDArray[np.bool_] | None) -> list[int]:
        """Return the rows to reset."""
        if mask is None:
            return list(range(self.num_envs))
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"expected reset_mask of shape ({self.num_envs},) and type bool with at least one "
                f"True, found {mask.dtype} {mask.tolist()}"
            )
        return [int(row) for row in np.flatnonzero(mask)]
