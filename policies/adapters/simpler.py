"""Adapter for policies with SimplerEnv's interface, such as Octo, OpenVLA and RT-1.

Their `step` returns two dicts: the policy's own action, and an action for SimplerEnv's simulator.
The adapter uses the first. Settings of `RobotPolicy`, such as sticky=15 for the gripper, replace
the conversion to the second.
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
"""Layout of SimplerEnv's policies -> field -> SimplerEnv's name, where it differs."""


class Inference(Protocol):
    """The part of a SimplerEnv policy, such as `OctoInference`, that this adapter uses."""

    def reset(self, task_description: str) -> None:
        """Begin an episode."""
        ...

    def step(
        self, image: NDArray[np.uint8], task_description: str
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the policy's own action, and the simulator's action."""
        ...


class SimplerPolicy:
    """Runs one SimplerEnv policy object per slot, because such an object holds one episode."""

    def __init__(self, make: Callable[[int], Inference], meta: PolicyMeta) -> None:
        """Wrap SimplerEnv policies.

        Args:
            make: Returns an object for one episode, given the slot's seed. Objects should share
                their weights: `lambda seed: OctoInference(model=model, init_rng=seed, ...)`, or
                `copy.copy` of an object without random choices.
            meta: Metadata of the policy. Layout oxe7 fits actions with "open_gripper" (Octo,
                OpenVLA), fractal13 those with all of RT-1's fields.

        Raises:
            ValueError: A layout that SimplerEnv's policies do not use, or a chunk other than 1.
        """
        lookup(THEIR_NAMES, meta.layout, "the layout of a SimplerEnv policy")
        if meta.chunk != 1:
            raise ValueError(f"expected chunk=1, as `step` returns one action, found {meta.chunk}")
        self.meta = meta
        self._make = make
        self._own: list[Inference] = []
        self._instructions: list[str] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; every slot that is reset gets a new object."""
        begins = check_reset(self.meta, instructions, seeds, slots, len(self._own))
        new = {slot: self._make(int(seeds[slot])) for slot in begins}
        for slot, own in new.items():
            own.reset(instructions[slot])
        self._own = [new[s] if s in new else self._own[s] for s in range(len(seeds))]
        self._instructions = renew(self._instructions, instructions, slots)

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`.

        Raises:
            ValueError: Also if an action lacks a field of the layout.
        """
        check_frames(self.meta, len(self._own), frames, active)
        actions = np.zeros((len(frames), 1, ACTION_LAYOUTS[self.meta.layout].size), np.float32)
        for slot in np.flatnonzero(active):
            raw, _ = self._own[slot].step(frames[slot].copy(), self._instructions[slot])
            actions[slot, 0] = to_action(raw, self.meta.layout)
        return ActionBatch(actions)

    def close(self) -> None:
        """See `Policy.close`."""


def to_action(raw: Mapping[str, Any], layout: str) -> NDArray[np.float32]:
    """Return a policy's own action as values (D,) in the order of `layout`.

    Raises:
        ValueError: A field is missing or has another number of values.
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
