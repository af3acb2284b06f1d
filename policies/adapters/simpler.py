"""Policies with the interface of SimplerEnv's: Octo, OpenVLA, RT-1 and what was written like them.

Their `step` gives two dicts: the policy's own action, and one made for SimplerEnv's simulator. The
first is taken. What SimplerEnv does to get the second, `v2w_gym.policies.robot_policy.RobotPolicy`
does by its settings, such as sticky=15 for the gripper.
Source: SimplerEnv, `simpler_env.policies`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import GRIPPER
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ACTION_LAYOUTS
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew

THEIR_NAMES: Mapping[str, Mapping[str, str]] = {
    "oxe7": {GRIPPER: "open_gripper"},
    "fractal13": {},
}
"""The layouts that SimplerEnv's policies give, and how they call a field that has another name."""


class Inference(Protocol):
    """What is used of a policy in SimplerEnv, such as `OctoInference`."""

    def reset(self, task_description: str) -> None:
        """Begin an episode."""
        ...

    def step(
        self, image: NDArray[np.uint8], task_description: str
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the policy's own action, and the simulator's."""
        ...


class SimplerPolicy:
    """Asks one object of SimplerEnv's kind per slot, since such an object remembers one episode."""

    def __init__(self, make: Callable[[int], Inference], meta: PolicyMeta) -> None:
        """Wrap such policies.

        Args:
            make: From a slot's seed to an object of its own for one episode; weights are best
                shared (`lambda seed: OctoInference(model=model, init_rng=seed, ...)`, or
                `copy.copy` of one that draws nothing at random).
            meta: What is known of the policy. Layout oxe7 fits actions with "open_gripper" (Octo,
                OpenVLA), fractal13 those with all of RT-1's fields.

        Raises:
            ValueError: A layout that such a policy does not give, or chunks.
        """
        lookup(THEIR_NAMES, meta.layout, "the layout of a SimplerEnv policy")
        if meta.chunk != 1:
            raise ValueError(f"expected chunk=1, as `step` gives one action, found {meta.chunk}")
        self.meta = meta
        self._make = make
        self._own: list[Inference] = []
        self._told: list[str] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; makes a new object for every slot that begins."""
        begins = check_reset(self.meta, instructions, seeds, slots, len(self._own))
        new = {slot: self._make(int(seeds[slot])) for slot in begins}
        for slot, own in new.items():
            own.reset(instructions[slot])
        self._own = [new[s] if s in new else self._own[s] for s in range(len(seeds))]
        self._told = renew(self._told, instructions, slots)

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`.

        Raises:
            ValueError: Also an action that lacks a field of the layout.
        """
        check_frames(self.meta, len(self._own), frames, active)
        actions = np.zeros((len(frames), 1, ACTION_LAYOUTS[self.meta.layout].size), np.float32)
        for slot in np.flatnonzero(active):
            raw, _ = self._own[slot].step(frames[slot].copy(), self._told[slot])
            actions[slot, 0] = to_action(raw, self.meta.layout)
        return ActionBatch(actions)

    def close(self) -> None:
        """See `Policy.close`."""


def to_action(raw: Mapping[str, Any], layout: str) -> NDArray[np.float32]:
    """Return a policy's own action as values (D,) in the order of `layout`.

    Raises:
        ValueError: A field that is missing or has another number of values.
    """
    parts = []
    for name, size in ACTION_LAYOUTS[layout].fields:
        theirs = THEIR_NAMES[layout].get(name, name)
        try:
            values = np.ravel(np.asarray(raw.get(theirs, ()), np.float32))
        except (TypeError, ValueError) as error:
            raise ValueError(f"expected numbers as {theirs!r}, found {error}") from error
        if len(values) != size:
            raise ValueError(
                f"expected {size} values of {theirs!r} for layout {layout!r}, found {len(values)} "
                f"in an action with {sorted(raw)}; correct the layout"
            )
        parts.append(values)
    return np.concatenate(parts)
