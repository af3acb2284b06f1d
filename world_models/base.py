"""The world-model protocol: start from frames, step with actions, render, and identify itself.

The letters of shapes are those of `v2w_gym.world_models.state`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.state import FrameNoise, RolloutState


class WorldModel(Protocol):
    """A model that predicts the next camera frame from the frames and actions so far.

    Attributes:
        robot: The robot whose camera and actions it models.
        window: Most frames that it attends to, the new one included.
        context_frames: Recorded frames that it expects to begin with; it also accepts fewer.
    """

    robot: RobotSpec
    window: int
    context_frames: int

    @property
    def card(self) -> Mapping[str, Any]:
        """Its description in JSON values, which reports show."""
        ...

    @property
    def fingerprint(self) -> str:
        """A text that differs between world models, and between settings of one.

        Result rows hold it, and a run resumes only with a model of the same fingerprint; see
        `v2w_gym.world_models.checkpoint.fingerprint_of`.
        """
        ...

    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """Begin B rollouts from recorded frames.

        Args:
            frames: (B, T, H, W, 3) uint8, of the robot's frame size, oldest first, T < window.
            actions: (B, T - 1, A) taken between them; NaN for an unknown action.
            noise: Noise of the newest frame.

        Raises:
            ValueError: Frames of another size, type or number, or actions out of bounds.
        """
        ...

    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """Imagine the frame that `actions` (B, A) lead to; `render` decodes it.

        Raises:
            ValueError: Actions of another shape, not finite, or out of the robot's bounds.
        """
        ...

    def render(self, state: RolloutState) -> NDArray[np.uint8]:
        """Return the newest frame of each rollout, (B, H, W, 3) uint8; only this decodes frames."""
        ...


@runtime_checkable
class ClipModel(Protocol):
    """A world model that can also imagine a whole clip at once."""

    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        """Imagine a whole clip at once from its first frame.

        Args:
            frames: (B, H, W, 3) uint8, the first frame of each clip.
            actions: (B, T - 1, A), T at most the window.
            noise: Noise of the last of the T frames.

        Returns:
            Frames (B, T, H, W, 3), uint8; the first is imagined too.

        Raises:
            ValueError: Frames or actions of another size, or more of them than the window.
        """
        ...


def check_identified(model: WorldModel) -> None:
    """Check that a world model identifies itself, as result rows need.

    Raises:
        ValueError: A model without card or fingerprint.
    """
    lacking = [name for name in ("card", "fingerprint") if not hasattr(model, name)]
    if lacking:
        raise ValueError(
            f"expected a world model with card and fingerprint, found {type(model).__name__} "
            f"without {' and '.join(lacking)}; add them as `WorldModel` in "
            "v2w_gym/world_models/base.py describes, since result rows hold them"
        )
