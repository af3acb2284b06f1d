"""A Gymnasium vector environment that imagines many robots in one batch of a world model."""

from collections.abc import Mapping, Sequence, Sized
from copy import copy
from functools import partial
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.robots import ClippedActions, RobotSpec
from v2w_gym.configs.values import is_whole_number
from v2w_gym.configs.world_model import WorldModelSettings
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.interface import check_options, observation, to_numbers
from v2w_gym.judges.base import StepJudge
from v2w_gym.judges.loading import DEFAULT
from v2w_gym.making import choose_model
from v2w_gym.world_models.base import WorldModel

AUTORESET_MODES = {mode.value: mode for mode in AutoresetMode}


class Slot(Vid2WorldEnv):
    """One slot of the vector environment: `Vid2WorldEnv` with its own time limit.

    It behaves as `Vid2WorldEnv` inside Gymnasium's `TimeLimit` does.
    """

    _max_episode_steps = -1
    """Steps after which an attempt is truncated, -1 for no limit; the name is `TimeLimit`'s."""

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Imagine the camera frame after `action` (A,); see `Vid2WorldEnv.step`."""
        if self.attempt.batch is None:
            raise gym.error.ResetNeeded(
                "expected reset() before step(): this slot's attempt is over"
            )
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, self.truncated, info

    def get_wrapper_attr(self, name: str) -> Any:
        """Return an attribute.

        Raises:
            AttributeError: Unknown name.
        """
        if hasattr(self, name):
            return getattr(self, name)
        known = [each for each in dir(self) if not each.startswith("__")]
        raise AttributeError(
            f"expected an attribute of Vid2WorldEnv, found {name!r}{hint(name, known)}"
        )

    @property
    def truncated(self) -> bool:
        """Whether the attempt has reached its time limit."""
        limit = self._max_episode_steps
        return limit != -1 and self.attempt.steps >= limit

    @property
    def over(self) -> bool:
        """Whether the present attempt has ended."""
        return self.attempt.progress.terminated or self.truncated


class Vid2WorldVectorEnv(SyncVectorEnv):
    """`num_envs` attempts that share each forward pass of the world model.

    Slot i behaves as `Vid2WorldEnv` does with the same seed and episode; other slots do not
    influence it. Slots may attempt different tasks from different starts, and may be at different
    steps. `envs`, `call`, `get_attr` and `set_attr` access the slots, as in any `SyncVectorEnv`.

    Autoreset follows Gymnasium, with one exception: in DISABLED mode, a slot whose attempt has
    ended may be stepped. It ignores its action, keeps its last frame, returns reward 0 and costs
    nothing. `terminated` or `truncated` is True only in the step that ends the attempt;
    `info["over"]` stays True.
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
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **world_model: Any,
    ) -> None:
        """Make `num_envs` slots.

        Args:
            num_envs: Number of slots.
            max_episode_steps: Steps after which an attempt is truncated; -1 for no limit.
            model: As in `Vid2WorldEnv`.
            robots: As in `Vid2WorldEnv`.
            task: As in `Vid2WorldEnv`.
            start: As in `Vid2WorldEnv`.
            judge: As in `Vid2WorldEnv`.
            strict_actions: As in `Vid2WorldEnv`.
            terminate: As in `Vid2WorldEnv`.
            obs_type: As in `Vid2WorldEnv`.
            render_mode: As in `Vid2WorldEnv`.
            autoreset_mode: When a slot whose attempt has ended begins the next one.
            world_model: As in `Vid2WorldEnv`.

        Raises:
            FileNotFoundError: No such checkpoint or start.
            TypeError: An argument of an unknown name.
            ValueError: An argument out of range.
        """
        numbers = map(is_whole_number, (num_envs, max_episode_steps))
        if not all(numbers) or num_envs < 1 or (max_episode_steps < 1 and max_episode_steps != -1):
            raise ValueError(
                "expected num_envs >= 1 and max_episode_steps >= 1 (or -1 for no limit), found "
                f"num_envs={num_envs!r}, max_episode_steps={max_episode_steps!r}"
            )
        mode = autoreset_mode
        if isinstance(mode, str):
            mode = lookup(AUTORESET_MODES, mode, "autoreset_mode")
        slot = Slot(
            choose_model(model, world_model, Vid2WorldVectorEnv),
            robots=robots,
            task=task,
            start=start,
            judge=judge,
            strict_actions=strict_actions,
            terminate=terminate,
            obs_type=obs_type,
            render_mode=render_mode,
        )
        slot._max_episode_steps = max_episode_steps
        super().__init__([partial(copy, slot)] * num_envs, autoreset_mode=mode)
        self.simulation = slot.simulation

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an attempt in every slot, or in those of `options["reset_mask"]`.

        Args:
            seed: A number seeds slot i with `seed + i`; a list has one seed per slot. See
                `Vid2WorldEnv.reset`.
            options: `start`, `task` and `episode` apply to every slot; the lists `starts`,
                `tasks` and `episodes` have one value per slot. `reset_mask` (num_envs,) bool
                selects the slots to reset. Other names are ignored.

        Raises:
            FileNotFoundError: The start is a path without a file.
            TypeError: The mask is no array of bool.
            ValueError: Unknown task or start, or a list or mask of the wrong length.
            gymnasium.error.ResetNeeded: The mask leaves out a slot that was never reset.
        """
        named = check_options(options)
        rows = self._masked(named.get("reset_mask"))
        self._begin(rows, self._seeds(seed), self._options_per_slot(named))
        return self._observations_now(), self._infos({}, rows)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Any, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Take `actions` (num_envs, A), one in each slot.

        Raises:
            TypeError: A single number.
            ValueError: Wrong shape, or a running slot's action is not finite or, with
                `strict_actions`, out of bounds.
            gymnasium.error.ResetNeeded: No reset yet.
        """
        over = np.array([slot.over for slot in self._slots])
        running = np.flatnonzero(~over).tolist()
        self._advance(running, self._clipped(actions, over))
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), np.bool_)
        for row in running:
            slot = self._slots[row]
            progress = slot.attempt.progress
            rewards[row] = progress.success
            terminated[row], truncated[row] = progress.terminated, slot.truncated
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self._begin_next(np.flatnonzero(over).tolist())
        infos = self._ended(np.flatnonzero(terminated | truncated).tolist())
        infos = self._infos(infos, range(self.num_envs))
        return self._observations_now(), rewards, terminated, truncated, infos

    @property
    def robot(self) -> RobotSpec:
        """The robot that the world model imagines."""
        return self.simulation.model.robot

    @property
    def spec(self) -> EnvSpec | None:
        """The spec that `gym.make_vec` used; every slot has the same."""
        return self._slots[0].spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        for slot in self._slots:
            slot.spec = spec

    @property
    def _slots(self) -> list[Slot]:
        return cast("list[Slot]", self.envs)

    def _observations_now(self) -> Any:
        frames = np.stack([slot.attempt.frames[-1] for slot in self._slots])
        return observation(frames, self._slots[0].obs_type)

    def _infos(self, infos: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
        for row in rows:
            slot = self._slots[row]
            infos = self._add_info(infos, slot._info(), row)
            if self.autoreset_mode is AutoresetMode.DISABLED:
                infos = self._add_info(infos, {"over": slot.over}, row)
        return infos

    def _clipped(self, actions: NDArray[np.float32], over: NDArray[np.bool_]) -> ClippedActions:
        """Check and clip actions (num_envs, A); slots that are over take a resting action."""
        if np.isscalar(actions):
            raise TypeError(f"expected one action for each of {self.num_envs} slots, found one")
        actions = to_numbers(actions, (self.num_envs, self.robot.action_size)).copy()
        actions[over] = self.robot.make_action()
        return self._slots[0]._rule.clip(actions)

    def _advance(self, rows: Sequence[int], taken: ClippedActions) -> None:
        attempts = [self._slots[row].attempt for row in rows]
        newer = self.simulation.advance(attempts, taken.select(rows))
        for row, attempt in zip(rows, newer, strict=True):
            self._slots[row]._attempt = attempt

    def _ended(self, rows: Sequence[int]) -> dict[str, Any]:
        """Apply the autoreset mode to slots that have just ended; return their final infos."""
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.DISABLED:
            for row in rows:  # free what only further steps would need
                self._slots[row]._attempt = self._slots[row].attempt.closed()
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            for row in rows:
                slot = self._slots[row]
                final = {"final_obs": slot._observation(), "final_info": slot._info()}
                infos = self._add_info(infos, final, row)
            self._begin_next(rows)
        return infos

    def _begin_next(self, rows: Sequence[int]) -> None:
        if rows:
            self._begin(rows, [None] * self.num_envs, [{}] * self.num_envs)

    def _begin(
        self,
        rows: Sequence[int],
        seeds: Sequence[int | None],
        options: Sequence[Mapping[str, Any]],
    ) -> None:
        plans = [self._slots[row]._plan(seeds[row], options[row]) for row in rows]
        for row, attempt in zip(rows, self.simulation.begin(plans), strict=True):
            self._slots[row]._begin(attempt)

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + i for i in range(self.num_envs)]
        seeds = self._one_per_slot("seed", seed)
        return [int(one) if isinstance(one, np.integer) else one for one in seeds]

    def _options_per_slot(self, options: Mapping[str, Any]) -> list[dict[str, Any]]:
        per_slot = [dict(options) for _ in range(self.num_envs)]
        for name in ("start", "task", "episode"):
            if name + "s" in options:
                values = self._one_per_slot(name + "s", options[name + "s"])
                for chosen, value in zip(per_slot, values, strict=True):
                    chosen[name] = value
        return per_slot

    def _one_per_slot(self, name: str, values: Sequence[Any]) -> Sequence[Any]:
        found = len(values) if isinstance(values, Sized) else repr(values)
        if found != self.num_envs or isinstance(values, str):
            raise ValueError(
                f"expected one value of {name} for each of {self.num_envs} slots, found {found}"
            )
        return values

    def _masked(self, mask: NDArray[np.bool_] | None) -> list[int]:
        """Return the slots that a reset mask selects."""
        if mask is None:
            return list(range(self.num_envs))
        shape = (self.num_envs,)
        array = isinstance(mask, np.ndarray)
        if array and mask.shape == shape and mask.dtype == np.bool_ and mask.any():
            return [int(row) for row in np.flatnonzero(mask)]
        found = f"{mask.dtype} {mask.tolist()}" if array else f"{type(mask).__name__}"
        wrong_type = not array or (mask.shape == shape and mask.dtype != np.bool_)
        raise (TypeError if wrong_type else ValueError)(
            f"expected reset_mask to be an array of shape {shape} and type bool with at least one "
            f"True, found {found}"
        )
