"""The planner's perception: a small keypoint network that reads positions from frames."""

from collections.abc import Sequence
from reprlib import repr as shorten

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

VALUES = ("hand_x", "hand_y", "hand_z", "handle_x", "opening")
"""The network's outputs, in metres; see `controller.Scene`."""
CENTRE = (0.0, 0.6, 0.15, 0.0, 0.08)
"""The outputs for zero activations, in metres."""
SCALE = 0.1
"""Metres per unit of the network's output."""
HIDDEN = 64
MOST_LAYERS, MOST_CHANNELS = 32, 4096
"""Largest sizes of a network."""


def to_pixels(frames: NDArray[np.uint8]) -> Tensor:
    """Turn frames (B, H, W, 3) into the network's input: float32 (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(frames.copy()).movedim(-1, 1).float() / 127.5 - 1


def check_channels(channels: object) -> None:
    """Check the channels of a network.

    Raises:
        ValueError: Not a list of numbers, an empty or too long list, or a number out of range.
    """
    sizes = channels if isinstance(channels, list | tuple) else ()
    right = all(type(size) is int and 1 <= size <= MOST_CHANNELS for size in sizes)
    if not right or not 1 <= len(sizes) <= MOST_LAYERS:
        raise ValueError(
            f"expected channels of at least 1 and at most {MOST_CHANNELS} in 1 to {MOST_LAYERS} "
            f"layers, found {shorten(channels)}"
        )


class PerceptionNetwork(nn.Module):
    """Reads positions from frames.

    A spatial soft-argmax reduces every feature map of the last convolution to a keypoint, and the
    outputs are computed from the keypoints alone. Keypoints change less under blur and brightness
    changes than activations do.
    Source: Finn et al., "Deep Spatial Autoencoders for Visuomotor Learning", ICRA 2016.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        """Make a network with as many keypoints as the last of the `channels`."""
        super().__init__()
        self.channels = tuple(channels)
        layers: list[nn.Module] = []
        for before, after in zip((3, *channels[:-1]), channels, strict=True):
            stride = 2 if len(layers) < 4 else 1
            layers += [nn.Conv2d(before, after, 5, stride, 2), nn.ReLU()]
        self.maps = nn.Sequential(*layers[:-1])
        self.sharpness = nn.Parameter(torch.ones(channels[-1], 1))
        self.head = nn.Sequential(
            nn.Linear(2 * channels[-1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(VALUES))
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Return `VALUES` (B, 5) in metres for frames (B, 3, H, W) in [-1, 1]."""
        maps = self.maps(frames)  # (B, K, h, w)
        height, width = maps.shape[2:]
        weight = (self.sharpness * maps.flatten(2)).softmax(-1).unflatten(-1, (height, width))
        down = weight.sum(3) @ torch.linspace(-1, 1, height)
        right = weight.sum(2) @ torch.linspace(-1, 1, width)
        return torch.tensor(CENTRE) + SCALE * self.head(torch.cat([down, right], 1))
