"""What every policy checks of what it is given."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from policies.base import PolicyMeta


def check_least(cfg: object, least: Mapping[str, float]) -> None:
    """Check that settings are finite and at least as large as they must be; null is not checked.

    Raises:
        ValueError: One that is smaller, infinite or NaN.
    """
    for name, low in least.items():
        value = getattr(cfg, name)
        if value is not None and not low <= value < np.inf:
            raise ValueError(f"expected a finite {name} of at least {low}, found {value}")


def check_reset(meta: PolicyMeta, instructions: Sequence[str], seeds: Sequence[int]) -> None:
    """Check that every slot has an instruction and a seed, and that there are not too many slots.

    Raises:
        ValueError: Lengths that differ, or more slots than the policy can act in.
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
            "`policies.driver.Driver`, which resizes, and reset() with one instruction per slot"
        )
    if active.dtype != np.bool_ or active.shape != (slots,):
        raise ValueError(
            f"expected a bool mask of shape {(slots,)}, found {active.dtype} {active.shape}"
        )
