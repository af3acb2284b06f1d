"""What every policy checks of what it is given."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from v2w_gym.policies.base import PolicyMeta

Held = TypeVar("Held")


def renew(held: Sequence[Held], new: Sequence[Held], slots: Sequence[int] | None) -> list[Held]:
    """Return what a policy holds of each slot after a reset: `new`, or `new` in `slots` alone."""
    if slots is None:
        return list(new)
    renewed = list(held)
    for slot in slots:
        renewed[slot] = new[slot]
    return renewed


def check_slots(slots: Sequence[int] | None, instructions: Sequence[str], held: int) -> list[int]:
    """Return the slots that a reset begins: `slots`, or one per instruction for None.

    Raises:
        ValueError: Slots that are not among the `held` ones of the last reset, or a batch of
            another size.
    """
    if slots is None:
        return list(range(len(instructions)))
    if len(instructions) != held:
        raise ValueError(
            f"expected instructions for all {held} slots of the last reset when some begin anew, "
            f"found {len(instructions)}; leave slots out to begin another batch"
        )
    numbers = np.asarray(slots)
    whole = numbers.ndim == 1 and (numbers.dtype.kind in "iu" or not numbers.size)
    if not whole or not ((numbers >= 0) & (numbers < held)).all():
        raise ValueError(
            f"expected slots as numbers from 0 to {held - 1}, found {slots}; of a mask, take "
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
    """Return the slots that begin anew, if what `Policy.reset` is given fits.

    Args:
        meta: Of the policy.
        instructions: One per slot.
        seeds: One per slot.
        slots: Those that begin anew; None for all.
        held: Slots of the last reset.

    Raises:
        ValueError: Lengths that differ, more slots than the policy can act in, or slots that the
            last reset did not prepare.
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
    """Check what `Policy.act` is given against the slots of the last reset.

    Raises:
        ValueError: Frames of another type, size or number, or a mask of another type or length.
    """
    height, width = meta.image_size or frames.shape[1:3]
    expected = (slots, height, width, 3)
    if frames.dtype != np.uint8 or frames.shape != expected:
        raise ValueError(
            f"expected uint8 frames of shape {expected} for policy {meta.name!r} in {slots} slots, "
            f"found {frames.dtype} {frames.shape}; drive the policy with a "
            "`v2w_gym.policies.driver.Driver`, which resizes, and reset() with one instruction "
            "per slot"
        )
    if active.dtype != np.bool_ or active.shape != (slots,):
        raise ValueError(
            f"expected a bool mask of shape {(slots,)}, found {active.dtype} {active.shape}"
        )
