"""Did it work? A judge reads the drawer's opening from camera frames and decides, or abstains."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from v2w_gym.configs.text import to_path
from v2w_gym.progress import SOLVED_FRAMES
from v2w_gym.standin.drawer import margin
from v2w_gym.world_models.checkpoint import check_kind, load_checkpoint, make_network
from v2w_gym.world_models.frames import to_tensor

Value = TypeVar("Value", np.bool_, np.float64)

KIND = "drawer_judge"
BUNDLED = Path(__file__).parents[1] / "weights" / "judge.safetensors"
SCALE = 0.1
"""Metres per unit of the network's output."""
READABLE_SIGMA = 0.02
"""Largest standard deviation, in metres, at which a frame's opening counts as read."""


@dataclass(frozen=True)
class Verdicts:
    """What a judge says about B attempts of T frames.

    Attributes:
        success: (B,) whether the task, unsolved in the first frame, was solved in two consecutive
            ones.
        abstained: (B,) whether a failure might be a success: frames could not be read, or the task
            was solved before the policy acted.
        score: (B,) confidence in [0, 1] that the task was solved in two consecutive frames.
        opening: (B, T) the drawer's opening per frame, in metres.
        sigma: (B, T) standard deviation of `opening`, in metres.
    """

    success: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    score: NDArray[np.float64]
    opening: NDArray[np.float64]
    sigma: NDArray[np.float64]


class OpeningNetwork(nn.Module):
    """Reads one 64 x 64 frame: the drawer's opening and the logarithm of its variance."""

    def __init__(self) -> None:
        """Make the layers; about 142,000 weights."""
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
    """Judges the stand-in's two drawer tasks by the thresholds that the stand-in robot itself uses.

    It sees single frames, knows neither task nor history, and was trained on recorded frames only.
    Its measured accuracy is on its card.
    """

    def __init__(self, network: OpeningNetwork, card: Mapping[str, Any]) -> None:
        """Wrap a trained network; its name ends in the first digits of the card's `sha256`."""
        self.network = network.eval().requires_grad_(False)
        self.card = card
        self.name = f"{KIND}-{card['sha256'][:12]}"

    def opening(self, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Read frames (..., 64, 64, 3): the drawer's opening and its standard deviation, metres.

        Raises:
            ValueError: Frames of another type or size.
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

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        """Whether the newest frame of each attempt (B, T, H, W, 3) was read as solved: (B,)."""
        opening, sigma = self.opening(frames[:, -1])
        return (sigma <= READABLE_SIGMA) & (margin(opening, task) >= 0)

    def verdicts(self, frames: NDArray[np.uint8], task: str) -> Verdicts:
        """Judge B attempts (B, T, H, W, 3); see `judge_openings`."""
        return judge_openings(*self.opening(frames), task)


def judge_openings(opening: NDArray[np.float64], sigma: NDArray[np.float64], task: str) -> Verdicts:
    """Decide from the drawer's opening (B, T) and its standard deviation, both in metres.

    Raises:
        ValueError: Unknown task.
    """
    beyond = margin(opening, task)
    readable = sigma <= READABLE_SIGMA
    solved = readable & (beyond >= 0)
    # What was solved before the first action is nobody's success: left undecided.
    success = np.asarray(_consecutive(solved).any(axis=1) & ~solved[:, 0])
    possible = np.asarray(_consecutive(solved | ~readable).any(axis=1))
    confidence = torch.special.ndtr(torch.from_numpy(beyond / sigma)).numpy()
    return Verdicts(
        success=success,
        abstained=possible & ~success,
        score=_consecutive(confidence).max(axis=1, initial=0.0),
        opening=opening,
        sigma=sigma,
    )


@lru_cache(maxsize=4)
def load_judge(path: str | None = None) -> DrawerJudge:
    """Load a judge once per process; None is the bundled one.

    Raises:
        FileNotFoundError: No such judge.
        ValueError: The file holds something else, or is damaged.
    """
    file = to_path(path) if path else BUNDLED
    tensors, card = load_checkpoint(file)
    check_kind(file, card, KIND)
    return DrawerJudge(make_network(file, OpeningNetwork, tensors), card)


def _consecutive(values: NDArray[Value]) -> NDArray[Value]:
    """Return the minimum over every `SOLVED_FRAMES` consecutive frames: (B, T) to (B, T - 1)."""
    windows = max(values.shape[1] - SOLVED_FRAMES + 1, 0)
    pairs = np.stack([values[:, i : i + windows] for i in range(SOLVED_FRAMES)])
    lowest: NDArray[Value] = pairs.min(axis=0)
    return lowest
