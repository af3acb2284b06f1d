"""Quirks of the published weights: mistakes of the training code that inference must repeat.

Only the settings of a published model switch them on.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.world_models.vid2world.published.transfer import causal_kernel

TOKENS_PER_FRAME = 16


class HeightCausalConv(nn.Conv2d):
    """The last 3 x 3 convolution, causal along image height instead of time.

    A row depends on itself and the two rows above it.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        """Build a kernel (out, in, 3, 3)."""
        super().__init__(channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve frames (N, C, h, w)."""
        return super().forward(F.pad(x, (1, 1, 2, 0)))


def tokens_by_frame(tokens: Tensor, frames: int) -> Tensor:
    """Distribute image tokens (B, M, D) over T = `frames` frames: (B, F, M / F, D).

    In a window of exactly M / 16 frames each frame gets its own 16 tokens (F = T). In any other
    window every frame gets all tokens (F = 1). The published code decides by the number of tokens,
    so its autoregressive rollouts use all tokens until the window is full.
    """
    own = tokens.shape[1] == TOKENS_PER_FRAME * frames
    return tokens.unflatten(1, (frames if own else 1, -1))


def causal_output(weights: Mapping[str, Tensor], mode: str, order: int) -> dict[str, Tensor]:
    """Transfer the output convolution along image height, as the published loader does."""
    return {"conv_out.weight": causal_kernel(weights["conv_out.weight"], mode, order)}
