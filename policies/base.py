"""The policy protocol: frames and instructions in, actions out, for B rollouts at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import GripperName, RotationName
from v2w_gym.configs.robots import LayoutName
from v2w_gym.configs.rules import BatchSize, Pixels, Range, Rate
from v2w_gym.configs.values import Settings

Held = TypeVar("Held")


@dataclass(frozen=True)
class PolicyMeta(Settings):
    """Metadata of a policy; values are checked when it is made.

    Attributes:
        name: Label in tables and plots.
        layout: Layout of its actions, a key of `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        image_size: Height and width of its input frames; None for any size.
        control_hz: Actions per second in its training; None for any rate.
        history: Frames in its history, the present one included.
        chunk: Actions that one request returns, for this step and the next ones.
        max_batch: Largest number of slots; None for no limit.
        gripper: "relative", "absolute" or another of `v2w_gym.configs.action_layouts.CONVENTIONS`;
            empty for the layout's convention.
        rotation: "rpy", "axis_angle" or "none"; empty for the layout's convention.
        fingerprint: sha256 of its weights or of the episode it replays; empty for other policies.
        execution_horizon: Actions of a chunk that its authors execute before the next request; 0
            for all of them.
        ensemble: Its authors' weight for averaging chunks, as in `ProcessingConfig.ensemble`; None
            if they do not average.
    """

    name: str
    layout: LayoutName
    image_size: tuple[Pixels, Pixels] | None = None
    control_hz: Rate | None = None
    history: Annotated[int, Range(0, 100_000)] = 0
    chunk: Annotated[int, Range(1, 100_000)] = 1
    max_batch: BatchSize | None = None
    gripper: GripperName = ""
    rotation: RotationName = ""
    fingerprint: str = ""
    execution_horizon: Annotated[int, Range(0, 100_000)] = 0
    ensemble: Annotated[float, Range(-1e6, 1e6)] | None = None


@dataclass(frozen=True)
class ActionBatch:
    """A policy's response for B slots.

    Attributes:
        actions: (B, chunk, D) float32, in the order of the policy's layout; rows of inactive slots
            are ignored.
        events: Pairs (slot, text) of problems that the policy handled, such as (0, "terminate token
            out of range"). `RobotPolicy` counts them.
    """

    actions: NDArray[np.float32]
    events: tuple[tuple[int, str], ...] = ()


class Policy(Protocol):
    """A policy that acts in B slots and keeps the history of each slot.

    Its actions in a slot depend on that slot's instruction, seed and frames alone, not on the rest
    of the batch. It returns actions in its own layout and units. `RobotPolicy` preprocesses frames
    for it and converts its actions to a robot's. Test a policy with
    `v2w_gym.policies.conformance.PolicyConformance`.
    """

    meta: PolicyMeta

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """Clear the history and begin one slot per instruction, or reset only some slots.

        Args:
            instructions: (B,) instruction of each slot.
            seeds: (B,) seed of each slot's random choices.
            slots: Slots of the last reset to reset again. The other slots continue, and their
                instructions and seeds are ignored. None begins a new batch. A policy without this
                argument is always reset as a whole.

        Raises:
            ValueError: An unknown instruction, lengths that differ, more than `max_batch` slots, or
                slots that are not in the present batch.
        """
        ...

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """Choose the next actions in every active slot.

        Args:
            frames: (B, H, W, 3) uint8, the newest frame of each slot, without black bars.
            active: (B,) slots that act; the history of the others does not change.

        Raises:
            ValueError: Frames of the wrong size or type, or another batch size than in `reset`.
        """
        ...

    def close(self) -> None:
        """Free external resources such as a process or a connection. Safe to call twice."""
        ...


def renew(held: Sequence[Held], new: Sequence[Held], slots: Sequence[int] | None) -> list[Held]:
    """Return a policy's per-slot values after a reset: `new` in `slots` (None for all)."""
    if slots is None:
        return list(new)
    renewed = list(held)
    for slot in slots:
        renewed[slot] = new[slot]
    return renewed


def check_slots(slots: Sequence[int] | None, instructions: Sequence[str], held: int) -> list[int]:
    """Return the slots that a reset begins: `slots`, or one per instruction for None.

    Raises:
        ValueError: Slots that are not among the `held` slots of the present batch, or a batch of
            another size.
    """
    if slots is None:
        return list(range(len(instructions)))
    if len(instructions) != held:
        raise ValueError(
            f"expected instructions for all {held} slots of the last reset when only some are "
            f"reset, found {len(instructions)}; leave slots out to begin another batch"
        )
    numbers = np.asarray(slots)
    whole = numbers.ndim == 1 and (numbers.dtype.kind in "iu" or not numbers.size)
    if not whole or not ((numbers >= 0) & (numbers < held)).all():
        raise ValueError(
            f"expected slots as numbers from 0 to {held - 1}, found {slots}; for a mask, pass "
            "np.flatnonzero(mask)"
        )
    return [int(slot) for slot in numbers]


def check_reset(
    meta: PolicyMeta,
    instructions: Sequence[str],
    seeds: Sequence[int],
    slots: Sequence[int] | None = None,
    held: int = 0,
) -> list[int]:
    """Check the arguments of `Policy.reset`, and return the slots to reset.

    Args:
        meta: The policy's metadata.
        instructions: One per slot.
        seeds: One per slot.
        slots: The slots to reset; None for all.
        held: Number of slots of the last reset.

    Raises:
        ValueError: Lengths that differ, more than `max_batch` slots, or slots that are not in the
            present batch.
    """
    if len(instructions) != len(seeds):
        raise ValueError(
            f"expected one seed per instruction, found {len(instructions)} instructions and "
            f"{len(seeds)} seeds"
        )
    if meta.max_batch is not None and len(instructions) > meta.max_batch:
        raise ValueError(
            f"expected at most {meta.max_batch} slots for policy {meta.name!r}, found "
            f"{len(instructions)}; run fewer rollouts together (batch_size={meta.max_batch})"
        )
    return check_slots(slots, instructions, held)


def check_frames(
    meta: PolicyMeta, slots: int, frames: NDArray[np.uint8], active: NDArray[np.bool_]
) -> None:
    """Check the arguments of `Policy.act` for the slots of the last reset.

    Raises:
        ValueError: Frames of the wrong type, size or number, or a mask of the wrong type or length.
    """
    height, width = meta.image_size or frames.shape[1:3]
    expected = (slots, height, width, 3)
    if frames.dtype != np.uint8 or frames.shape != expected:
        raise ValueError(
            f"expected uint8 frames of shape {expected} for policy {meta.name!r} in {slots} slots, "
            f"found {frames.dtype} {frames.shape}; wrap it in "
            "`v2w_gym.RobotPolicy`, which resizes frames, and call reset() with one "
            "instruction per slot"
        )
    if active.dtype != np.bool_ or active.shape != (slots,):
        raise ValueError(
            f"expected a bool mask of shape {(slots,)}, found {active.dtype} {active.shape}"
        )
