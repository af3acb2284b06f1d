"""What every world model offers: start from frames, step with actions.

Shape legend, used everywhere: B rollouts, T frames, H x W pixels, C latent channels, h x w latent
pixels, A action values.
"""

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from configs.robots import RobotSpec


@dataclass(frozen=True)
class RolloutState:
    """What a world model remembers between steps; B rollouts of equal history share one state.

    A state is never changed: it can be kept, branched from, split and joined.

    Attributes:
        frame: (B, 3, H, W) float32 in [-1, 1], the newest frame.
        condition: (B, C, h, w) the latent of the frame that conditions the window.
        context: (B, G, M, D) what cross-attention is told of that frame: M tokens for each of G
            guidance branches, one set where the branches share it; empty for a model without.
        latents: (B, T, C, h, w) oldest first, at most the model's window.
        actions: (B, T, A): `actions[:, t]` was taken before frame t and led to it; NaN where no
            action is known, such as before the first frame.
    """

    frame: Tensor
    condition: Tensor
    context: Tensor
    latents: Tensor
    actions: Tensor

    def __len__(self) -> int:
        """Return the number of rollouts (B)."""
        return len(self.frame)

    @property
    def history(self) -> int:
        """Number of frames remembered (T)."""
        return self.latents.shape[1]

    def select(self, rows: list[int]) -> "RolloutState":
        """Return the rollouts at `rows`, in that order."""
        return RolloutState(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def join_states(states: list[RolloutState]) -> RolloutState:
    """Put rollouts of equal history into one state, in the order given."""
    return RolloutState(
        **{f.name: torch.cat([getattr(s, f.name) for s in states]) for f in fields(RolloutState)}
    )


def first_unknown(actions: Tensor) -> Tensor:
    """Put an unknown action before actions (B, T - 1, A), so that each frame has the one before."""
    unknown = actions.new_full((len(actions), 1, actions.shape[2]), torch.nan)
    return torch.cat([unknown, actions], dim=1)


@dataclass(frozen=True)
class FrameNoise:
    """The random numbers of one frame of B rollouts: a counter, not a stream that is used up.

    Each value depends on (seed, episode, frame, draw) of its own rollout alone, so a rollout is
    the same in any batch, order or shard, and after a resume.

    Attributes:
        seeds: (B,) seed of each rollout, in [0, 2**64).
        episodes: (B,) episode number of each rollout, in [0, 2**64).
        frames: (B,) index of the frame that is being made.
    """

    seeds: tuple[int, ...]
    episodes: tuple[int, ...]
    frames: tuple[int, ...]

    def earlier(self, frames: int) -> "FrameNoise":
        """Return the noise of the frame made `frames` frames before this one."""
        return FrameNoise(self.seeds, self.episodes, tuple(f - frames for f in self.frames))

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return standard normal numbers (B, *shape), float32, the same at every call."""
        rows = [
            np.random.Generator(
                np.random.Philox(
                    key=np.array([seed, episode], np.uint64),
                    counter=np.array([0, 0, draw, frame], np.uint64),
                )
            ).standard_normal(shape, dtype=np.float32)
            for seed, episode, frame in zip(self.seeds, self.episodes, self.frames, strict=True)
        ]
        return torch.from_numpy(np.stack(rows))


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
        """Imagine the frame that follows when `actions` (B, A) are taken now.

        Raises:
            ValueError: Actions of another shape, not finite, or out of the robot's bounds.
        """
        ...

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
