"""Judges of whole rollouts; they live below, because environments ask them too."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from v2w_gym.judges.drawer import (
    BUNDLED,
    KIND,
    READABLE_SIGMA,
    SCALE,
    DrawerJudge,
    OpeningNetwork,
    Verdicts,
    judge_openings,
    load_judge,
)
from v2w_gym.progress import Judge

__all__ = [
    "BUNDLED",
    "KIND",
    "READABLE_SIGMA",
    "SCALE",
    "DrawerJudge",
    "OpeningNetwork",
    "RolloutJudge",
    "Verdicts",
    "judge_openings",
    "load_judge",
]


class RolloutJudge(Judge, Protocol):
    """A judge of whole rollouts; `success`, of the newest frame, is what the environment asks."""

    name: str
    card: Mapping[str, Any]

    def verdicts(self, frames: NDArray[np.uint8], task: str) -> Verdicts:
        """Judge B attempts (B, T, H, W, 3).

        Raises:
            ValueError: A task this judge does not know, or frames of another type or size.
        """
        ...
