"""What a robot policy is: a frame and an instruction in, actions out, for B rollouts at once."""

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
    """What must be known of a policy before it acts on a robot; checked when it is made.

    Attributes:
        name: Label in tables and plots.
        layout: What its actions are; a key of `v2w_gym.configs.robots.ACTION_LAYOUTS`.
        image_size: Height and width of the frames it takes; None where any will do.
        control_hz: Actions per second it was made for; None where any will do.
        history: Frames it remembers, the present one included.
        chunk: Actions it gives at once, for this frame and the next ones.
        max_batch: Most slots it can act in; None for no limit.
        gripper: "relative", "absolute" or another of `v2w_gym.configs.action_layouts.CONVENTIONS`;
            empty for what the layout says.
        rotation: "rpy", "axis_angle" or "none"; empty for what the layout says.
        fingerprint: sha256 of its weights, or of the episode it replays; empty for a policy of
            neither.
        execution_horizon: Actions of a chunk that its makers carry out before it is asked again; 0
            for all of them.
        ensemble: How its makers average chunks, as in `ProcessingConfig.ensemble`; None if they do
            not.
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
    """What a policy chose in B slots.

    Attributes:
        actions: (B, chunk, D) float32, in the order of the policy's layout; rows of slots that are
            not active do not count.
        events: (slot, what happened) for whatever went wrong and was coped with, such as
            ("terminate token out of range"); `RobotPolicy` counts them.
    """

    actions: NDArray[np.float32]
    events: tuple[tuple[int, str], ...] = ()


class Policy(Protocol):
    """Acts in B slots; what it remembers of a slot lives in the policy.

    What it does in a slot depends on that slot's instruction, seed and frames alone, whoever else
    is in the batch. It gives what its makers made it give. A `RobotPolicy` prepares frames for it
    and turns its actions into a robot's. `v2w_gym.policies.conformance` is a test to inherit.
    """

    meta: PolicyMeta

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """Forget everything and prepare one slot per instruction, or begin anew in some slots.

        Args:
            instructions: (B,) what each slot is asked to do.
            seeds: (B,) what each slot's random choices depend on.
            slots: Slots of the last reset that begin anew; the others go on as they were, and their
                instructions and seeds here do not count. None for a batch that begins as a whole.
                A policy may lack this argument: then it is only ever reset as a whole.

        Raises:
            ValueError: An instruction the policy does not know, lengths that differ, more slots
                than it can act in, or slots that the last reset did not prepare.
        """
        ...

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """Choose the next actions in every active slot.

        Args:
            frames: (B, H, W, 3) uint8, the newest frame of each slot, without black bars.
            active: (B,) slots that are asked; the others' memories stay as they are.

        Raises:
            ValueError: Frames of another size or type, or a batch that differs from `reset`.
        """
        ...

    def close(self) -> None:
        """Free what the policy holds elsewhere: a process, a connection. Safe to call twice."""
        ...


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
            f"found {frames.dtype} {frames.shape}; call it through a "
            "`v2w_gym.policies.robot_policy.RobotPolicy`, which resizes, and reset() with one "
            "instruction per slot"
        )
    if active.dtype != np.bool_ or active.shape != (slots,):
        raise ValueError(
            f"expected a bool mask of shape {(slots,)}, found {active.dtype} {active.shape}"
        )
