"""The stand-in robot's judge, which measures the drawer's opening in frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from v2w_gym.judges.base import Quantity, Verdicts, decide
from v2w_gym.standin.drawer import margin
from v2w_gym.world_models.checkpoint import make_network
from v2w_gym.world_models.frames import to_tensor

KIND = "drawer_judge"
SCALE = 0.1
"""Metres per unit of the network's output."""
READABLE_SIGMA = 0.02
"""Largest standard deviation of the opening, in metres, at which a frame counts as readable."""


class OpeningNetwork(nn.Module):
    """Predicts the drawer's opening and its log variance from one 64 x 64 frame.

    It has about 142,000 weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Linear(48 * 8 * 8, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map frames (B, 3, 64, 64) in [-1, 1] to mean and log variance (B,), in `SCALE`."""
        mean, log_variance = self.head(self.features(frames).flatten(1)).unbind(1)
        return mean, log_variance.clamp(-10, 4)


class DrawerJudge:
    """Judges the stand-in's two drawer tasks by the thresholds of the simulator.

    The network reads single frames, without task or history. It was trained on recorded frames
    only. Its card states its measured accuracy.
    """

    quantity = Quantity("opening", unit="cm", scale=100)

    def __init__(self, network: OpeningNetwork, card: Mapping[str, Any]) -> None:
        """Wrap a trained network; the judge's name ends in the first digits of `card["sha256"]`."""
        self.network = network.eval().requires_grad_(False)
        self.card = card
        self.name = f"{KIND}-{card['sha256'][:12]}"

    def opening(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the drawer's opening in frames (..., 64, 64, 3) and its standard deviation, in m.

        Raises:
            ValueError: The frames' type or size is wrong.
        """
        if frames.dtype != np.uint8 or frames.shape[-3:] != (64, 64, 3):
            raise ValueError(
                f"expected uint8 frames (..., 64, 64, 3), found {frames.dtype} {frames.shape}; "
                "this judge reads the stand-in's frames only"
            )
        flat = frames.reshape(-1, *frames.shape[-3:])
        with torch.inference_mode():
            mean, log_variance = self.network(to_tensor(flat))
        shape = frames.shape[:-3]
        opening = SCALE * mean.double().numpy().reshape(shape)
        return opening, SCALE * np.exp(0.5 * log_variance.double().numpy().reshape(shape))

    def reading(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the drawer's opening in every frame (B, T, 64, 64, 3): (B, T), in metres."""
        return self.opening(frames)[0]

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        """Return whether the newest frame of each rollout (B, T, 64, 64, 3) shows success: (B,)."""
        opening, sigma = self.opening(frames[:, -1])
        return (sigma <= READABLE_SIGMA) & (margin(opening, task) >= 0)

    def verdicts(self, frames: NDArray[np.uint8], task: str) -> Verdicts:
        """Judge B rollouts (B, T, 64, 64, 3); see `judge_openings`."""
        return judge_openings(*self.opening(frames), task)


def judge_openings(opening: NDArray[np.float64], sigma: NDArray[np.float64], task: str) -> Verdicts:
    """Judge B rollouts by the drawer's opening (B, T) and its standard deviation, in metres.

    Raises:
        ValueError: Unknown task.
    """
    beyond = margin(opening, task)
    readable = sigma <= READABLE_SIGMA
    # P(true opening beyond the threshold) = Phi(margin / sigma), for a normal true opening.
    confidence = torch.special.ndtr(torch.from_numpy(beyond / sigma)).numpy()
    return decide(readable & (beyond >= 0), readable, confidence)


def make_judge(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> DrawerJudge:
    """Return the judge of a checkpoint.

    Raises:
        ValueError: The weights do not fit `OpeningNetwork`.
    """
    return DrawerJudge(make_network(path, OpeningNetwork, tensors), card)
