"""What every world model offers: start from frames, step with actions, say what it is.

The letters of shapes are those of `v2w_gym.world_models.state`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.state import FrameNoise, RolloutState


class WorldModel(Protocol):
    """Predicts the next camera frame from the frames and actions so far.

    Attributes:
        robot: Whose camera and actions it knows.
        window: Most frames it looks at, the new one included.
        context_frames: How many recorded frames it is made to begin with; fewer will do.
    """

    robot: RobotSpec
    window: int
    context_frames: int

    @property
    def card(self) -> Mapping[str, Any]:
        """What it is, in JSON values: reports show it."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells it from any other world model, or from itself with other settings.

        Rows note it, and a run goes on only with a model of the same one; see
        `v2w_gym.world_models.checkpoint.fingerprint_of`.
        """
        ...

    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """Begin B rollouts from recorded frames.

        Args:
            frames: (B, T, H, W, 3) uint8, of the robot's frame size, oldest first, T < window.
            actions: (B, T - 1, A) taken between them; NaN where an action is not known.
            noise: Of the newest of the frames.

        Raises:
            ValueError: Frames of another size, type or number, or impossible actions.
        """
        ...

    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """Imagine the frame that follows when `actions` (B, A) are taken now; `render` shows it.

        Raises:
            ValueError: Actions of another shape, not finite, or out of the robot's bounds.
        """
        ...

    def render(self, state: RolloutState) -> NDArray[np.uint8]:
        """Return the newest imagined frame of each rollout, (B, H, W, 3) uint8.

        Nothing is decoded before somebody looks.
        """
        ...


@runtime_checkable
class ClipModel(Protocol):
    """A world model that can also imagine a whole clip at once; not every kind can."""

    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        """Imagine a whole clip at once from its first frame, not frame by frame.

        Args:
            frames: (B, H, W, 3) uint8, the first frame of each clip.
            actions: (B, T - 1, A), T at most the window.
            noise: Of the last of the T frames.

        Returns:
            Frames (B, T, H, W, 3), uint8; the first is imagined too.

        Raises:
            ValueError: Frames or actions of another size, or more of them than the window.
        """
        ...


def check_identified(model: WorldModel) -> None:
    """Check that results can be kept under the name of a world model.

    Raises:
        ValueError: It says nothing of what it is.
    """
    lacking = [name for name in ("card", "fingerprint") if not hasattr(model, name)]
    if lacking:
        raise ValueError(
            f"expected a world model with card and fingerprint, found {type(model).__name__} "
            f"without {' and '.join(lacking)}; add them as `WorldModel` in "
            "v2w_gym/world_models/base.py describes, for results are kept under them"
        )
