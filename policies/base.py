"""What a robot policy is: a frame and an instruction in, an action out, for B rollouts at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PolicyMeta:
    """What a runner must know about a policy before it runs it.

    Attributes:
        name: Label in tables and plots.
        robot: Name of the `RobotSpec` whose actions it gives.
        image_size: Height and width of the frames it takes; None where it does not look.
        history: Frames it remembers, the present one included.
        fingerprint: sha256 of its weights; empty for a policy without weights.
    """

    name: str
    robot: str
    image_size: tuple[int, int] | None = None
    history: int = 0
    fingerprint: str = ""


class Policy(Protocol):
    """Acts in B slots; what it remembers of a slot lives in the policy.

    What it does in a slot depends on that slot's instruction, seed and frames alone.
    """

    meta: PolicyMeta

    def reset(self, instructions: Sequence[str], *, seeds: Sequence[int]) -> None:
        """Forget everything and prepare one slot per instruction.

        Args:
            instructions: (B,) what each slot is told to do.
            seeds: (B,) what each slot's random choices depend on.

        Raises:
            ValueError: An instruction the policy does not know, or lengths that differ.
        """
        ...

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Choose the next action in every active slot.

        Args:
            frames: (B, H, W, 3) uint8, the newest frame of each slot.
            active: (B,) slots that still run; the others' actions are the robot's "do nothing".

        Returns:
            Actions (B, A), float32, within the robot's bounds.

        Raises:
            ValueError: Frames of another size or type, or a batch that differs from `reset`.
        """
        ...
