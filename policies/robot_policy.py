"""A policy on a robot: preprocess frames, execute chunks, postprocess actions."""

import hashlib
import inspect
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import ActionLayout
from v2w_gym.configs.names import lookup
from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.configs.robots import ACTION_LAYOUTS, ENDINGS, RobotSpec
from v2w_gym.configs.text import brief
from v2w_gym.policies.base import ActionBatch, Policy, PolicyMeta, check_slots, renew
from v2w_gym.policies.processing.actions import (
    IMPOSSIBLE,
    Gripper,
    check_layout,
    check_settings,
    clip_to_bounds,
    ends_episode,
    is_impossible,
    to_robot,
    to_robot_layout,
)
from v2w_gym.policies.processing.chunks import (
    Queue,
    add_chunk,
    check_chunks,
    needs_chunk,
    next_action,
)
from v2w_gym.policies.processing.images import (
    CROPS,
    NEARLY_BLACK,
    RESIZES,
    bar_brightness,
    check_bars,
    preprocess_frames,
)

log = logging.getLogger(__name__)

PLAIN = ProcessingConfig()
"""No cropping, scaling or averaging."""
IGNORED = "terminate ignored"
LIT_BARS = "something in the black bars"


@dataclass(frozen=True)
class Slot:
    """The state of one slot: its queue of actions, its gripper, and its number of steps."""

    queue: Queue = ()
    gripper: Gripper = field(default_factory=Gripper)
    step: int = 0


class RobotPolicy:
    """A policy with pre- and postprocessing: a robot's frames in, a robot's actions out.

    It calls `policy.act` when a slot has executed its chunk of actions. The processing consists of
    pure functions on images, chunks and actions in `v2w_gym.policies.processing`.
    """

    def __init__(self, policy: Policy, robot: RobotSpec, cfg: ProcessingConfig = PLAIN) -> None:
        """Put `policy` on `robot`.

        Raises:
            ValueError: The policy does not fit the robot, or a setting is invalid or has no effect.
        """
        _check_config(cfg)
        _check_policy(policy)
        self.policy, self.robot, self.cfg = policy, robot, cfg
        self._executed = execution(policy.meta, cfg)
        check_chunks(self._executed, policy.meta.chunk)
        self._layout = _layout(policy.meta)
        check_layout(self._layout, robot)
        check_settings(cfg, robot)
        _check_rate(policy.meta, robot, cfg)
        self.events: list[Counter[str]] = []
        """Counts of the events in each slot since `reset`."""
        self._slots: list[Slot] = []

    @property
    def meta(self) -> PolicyMeta:
        """The policy's metadata."""
        return self.policy.meta

    @property
    def identity(self) -> dict[str, Any]:
        """JSON values of the policy and its processing that decide the actions."""
        policy = asdict(self.meta)
        del policy["max_batch"]  # the batch size does not change actions
        del policy["execution_horizon"], policy["ensemble"]  # the processing has the values in use
        return {"policy": policy, "driver": asdict(self._executed)}

    @property
    def fingerprint(self) -> str:
        """The policy's fingerprint, combined with its processing unless that is `PLAIN`."""
        if self._executed == PLAIN:
            return self.meta.fingerprint
        both = json.dumps([self.meta.fingerprint, asdict(self._executed)])
        return hashlib.sha256(both.encode()).hexdigest()

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """Clear the history and begin one slot per instruction, or reset only some slots.

        Call it whenever an environment begins a new attempt in a slot. Otherwise the slot continues
        with the old instruction, seed and history.

        Args:
            instructions: (B,) instruction of each slot.
            seeds: (B,) seed of each slot's random choices.
            slots: Slots of the last reset to reset again. The other slots continue with their
                chunks and history; their instructions and seeds are ignored. None for all.

        Raises:
            ValueError: As `Policy.reset`, or a policy that can only be reset as a whole.
        """
        begins = check_slots(slots, instructions, len(self._slots))
        if slots is None:
            self.policy.reset(instructions, seeds=seeds)
        elif begins:
            self._check_renewable()
            self.policy.reset(instructions, seeds=seeds, slots=begins)
        self._slots = renew(self._slots, [Slot() for _ in instructions], slots)
        self.events = renew(self.events, [Counter() for _ in instructions], slots)

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the next action of every slot (B, A), within the robot's bounds.

        Args:
            frames: (B, H, W, 3) uint8, the newest frame of each slot; inactive slots' are ignored.
            active: (B,) slots that act. The others return a resting action and keep their history.

        Raises:
            ValueError: The frames do not fit the policy, or the policy returns invalid actions.
        """
        self._check(frames, active)
        waiting = [needs_chunk(slot.queue, self._executed) for slot in self._slots]
        requested = active & np.array(waiting, np.bool_)
        if requested.any():
            self._request(frames, requested)
        actions = np.tile(self.robot.make_action(), (len(active), 1))
        for index in np.flatnonzero(active):
            actions[index] = self._next(int(index))
        return actions

    def close(self) -> None:
        """Close the policy. Safe to call twice."""
        self.policy.close()

    def _request(self, frames: NDArray[np.uint8], requested: NDArray[np.bool_]) -> None:
        """Get a chunk of actions from the policy for every requested slot."""
        first = requested & [slot.step == 0 for slot in self._slots]
        check_bars(frames[first], self.cfg)
        processed = preprocess_frames(frames[requested], self.meta.image_size, self.cfg)
        lit = bar_brightness(frames[requested], self.cfg) > NEARLY_BLACK
        for index in np.flatnonzero(requested)[lit]:
            self.events[index][LIT_BARS] += 1
        batch = np.zeros((len(requested), *processed.shape[1:]), np.uint8)
        batch[requested] = processed
        response = self.policy.act(batch, requested)
        self._check_response(response, len(requested))
        for index, event in response.events:
            self.events[index][event] += 1
        for index in (int(i) for i in np.flatnonzero(requested)):
            # A copy: the policy may write its next response into the same array.
            with np.errstate(over="ignore"):  # infinity is an error below
                chunk = np.array(response.actions[index], np.float32)
            slot = self._slots[index]
            if not np.isfinite(chunk).all():
                raise ValueError(
                    f"expected finite actions from policy {self.meta.name!r}, found "
                    f"{chunk[~np.isfinite(chunk)][0]} in slot {index}, step {slot.step}; check its "
                    "weights and its input frames"
                )
            self._slots[index] = replace(slot, queue=add_chunk(slot.queue, chunk, self._executed))

    def _check_response(self, response: ActionBatch, slots: int) -> None:
        expected = (slots, self.meta.chunk, self._layout.size)
        found = getattr(response, "actions", None)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
            found = response if found is None else found
            what = getattr(found, "dtype", type(found).__name__)
            raise ValueError(
                f"expected an ActionBatch with float32 actions, a NumPy array, from policy "
                f"{self.meta.name!r}, found {what}; for a tensor, use .float().cpu().numpy()"
            )
        if found.shape != expected:
            raise ValueError(
                f"expected actions of shape {expected} from policy {self.meta.name!r}, found "
                f"{found.shape}; correct chunk or layout in its PolicyMeta"
            )
        self._check_events(response.events, slots)

    def _check_events(self, events: object, slots: int) -> None:
        if isinstance(events, Sequence) and all(_is_event(event, slots) for event in events):
            return
        raise ValueError(
            f"expected events of policy {self.meta.name!r} as pairs of a slot from 0 to "
            f"{slots - 1} and a line of text, found {brief(events)}"
        )

    def _next(self, index: int) -> NDArray[np.float32]:
        slot = self._slots[index]
        queue, chosen = next_action(slot.queue, self._executed)
        moved = to_robot_layout(chosen, self._layout, self.robot)
        kind = self._layout.gripper
        if is_impossible(moved, kind, self.robot):
            self.events[index][IMPOSSIBLE] += 1
        gripper, moved = to_robot(slot.gripper, moved, kind, self.robot, self.cfg)
        action, changed = clip_to_bounds(moved, self.robot)
        self._slots[index] = Slot(queue, gripper, slot.step + 1)
        self.events[index].update(changed)
        if ENDINGS[self.cfg.terminate] and ends_episode(action, self.robot):
            self.events[index][IGNORED] += 1
            action = self.robot.ignore_endings(action[None])[0]
        return action

    def _check_renewable(self) -> None:
        known = inspect.signature(self.policy.reset).parameters
        if "slots" not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
            raise ValueError(
                f"expected a policy whose reset takes slots, to reset only some of them, found "
                f"{self.meta.name!r} with {list(known)}; add the argument as in "
                "`v2w_gym.policies.base.Policy.reset`, or reset all slots together"
            )

    def _check(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> None:
        slots = len(self._slots)
        shape = frames.shape
        fits = len(shape) == 4 and shape[::3] == (slots, 3) and all(shape[1:3])
        if frames.dtype != np.uint8 or not fits:
            raise ValueError(
                f"expected uint8 frames of shape ({slots}, H, W, 3), one per instruction of the "
                f"last reset, found {frames.dtype} {frames.shape}"
            )
        if active.dtype != np.bool_ or active.shape != (slots,):
            raise ValueError(
                f"expected a bool mask of shape {(slots,)}, found {active.dtype} {active.shape}"
            )


def execution(meta: PolicyMeta, cfg: ProcessingConfig) -> ProcessingConfig:
    """Return `cfg` with the execution of chunks; where `cfg` has none, the policy's own.

    A difference between the two is logged, because it can lower a policy's success rate.
    """
    if not cfg.execution_horizon and cfg.ensemble is None:
        return replace(cfg, execution_horizon=meta.execution_horizon, ensemble=meta.ensemble)
    made = replace(cfg, execution_horizon=meta.execution_horizon, ensemble=meta.ensemble)
    if (meta.execution_horizon or meta.ensemble is not None) and made != cfg:
        log.warning(
            "policy %r: its authors set execution_horizon %s and ensemble %s; the settings use %s "
            "and %s instead",
            *(meta.name, meta.execution_horizon, meta.ensemble),
            *(cfg.execution_horizon, cfg.ensemble),
        )
    return cfg


def _is_event(event: object, slots: int) -> bool:
    if not isinstance(event, tuple) or len(event) != 2:
        return False
    slot, text = event
    is_slot = isinstance(slot, int | np.integer) and bool(0 <= slot < slots)
    return is_slot and isinstance(text, str) and text.isprintable()


def _check_policy(policy: object) -> None:
    if isinstance(policy, type) or not isinstance(getattr(policy, "meta", None), PolicyMeta):
        raise ValueError(
            "expected a policy with `meta` (a PolicyMeta), `reset`, `act` and `close`, found "
            f"{policy.__name__ if isinstance(policy, type) else type(policy).__name__}; pass an "
            "instance of a policy (policies/base.py)"
        )


def _check_config(cfg: ProcessingConfig) -> None:
    lookup(CROPS, cfg.crop, "crop")
    lookup(RESIZES, cfg.resize, "resize")
    lookup(ENDINGS, cfg.terminate, "terminate")


def _check_rate(meta: PolicyMeta, robot: RobotSpec, cfg: ProcessingConfig) -> None:
    if cfg.any_rate or meta.control_hz in (None, robot.control_hz):
        return
    raise ValueError(
        f"expected a policy for {robot.control_hz:g} actions per second, which is the rate of "
        f"robot {robot.name!r}, found {meta.control_hz:g} of policy {meta.name!r}; set "
        "any_rate=true if its steps may mean another speed"
    )


def _layout(meta: PolicyMeta) -> ActionLayout:
    """Return the layout of a policy's actions, with the policy's gripper and rotation."""
    layout = ACTION_LAYOUTS[meta.layout]
    return replace(
        layout,
        gripper=meta.gripper or layout.gripper,
        rotation=meta.rotation or layout.rotation,
    )
