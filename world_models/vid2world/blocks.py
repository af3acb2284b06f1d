"""Residual blocks: convolution inside a frame, then convolution along time."""

import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.world_models.vid2world.temporal import TAPS, Timeline


def zero(layer: nn.Module) -> nn.Module:
    """Set a layer's parameters to zero, so that what it is added to starts unchanged."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class TemporalNorm(nn.Module):
    """Group normalisation in front of a temporal layer.

    `per_frame` statistics belong to one frame, which keeps the network strictly causal. `pooled`
    statistics are shared by all frames of the window, as in the published checkpoints: there a past
    frame's features depend on the present frame.
    """

    def __init__(self, channels: int, cfg: UNetConfig, eps: float = 1e-5) -> None:
        """Build for `cfg.temporal_norm`."""
        super().__init__()
        self.pooled = cfg.temporal_norm == "pooled"
        self.norm = nn.GroupNorm(cfg.groups, channels, eps=eps)

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """Normalise frames (N, C, h, w)."""
        if self.pooled:
            return time.pool(self.norm, x)
        normed: Tensor = self.norm(x)
        return normed


class TemporalConv(nn.Module):
    """Convolution along time at every latent pixel.

    Causal: over this frame and the two before it. Otherwise: over the frame before, this one and
    the next. Frames outside the window are zeros.
    Source: Vid2World section 4.1 (causal temporal convolution).
    """

    def __init__(self, channels: int, *, causal: bool) -> None:
        """Build one kernel (C, C, taps, 1, 1), oldest tap first."""
        super().__init__()
        self.after = 0 if causal else TAPS // 2
        self.conv = nn.Conv3d(channels, channels, (TAPS, 1, 1))

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """Convolve frames (N, C, h, w) along time."""
        return time.convolve(self.conv, x, after=self.after)


class TemporalConvBlock(nn.Module):
    """Four temporal convolutions behind one skip; starts as the identity."""

    def __init__(self, channels: int, cfg: UNetConfig) -> None:
        """Build the chain; the last convolution starts at zero."""
        super().__init__()
        self.norms = nn.ModuleList(TemporalNorm(channels, cfg) for _ in range(4))
        self.convs = nn.ModuleList(TemporalConv(channels, causal=cfg.causal) for _ in range(4))
        self.dropout = nn.Dropout(cfg.dropout)
        zero(self.convs[-1])

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """Convolve frames (N, C, h, w) along time."""
        h = self.convs[0](F.silu(self.norms[0](x, time)), time)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            h = conv(self.dropout(F.silu(norm(h, time))), time)
        return x + h


class ResBlock(nn.Module):
    """Two convolutions inside a frame, shifted by its embedding, then a temporal block."""

    def __init__(self, channels: tuple[int, int], embedding: int, cfg: UNetConfig) -> None:
        """Build for `channels` = (in, out); the second convolution starts at zero."""
        super().__init__()
        inside, outside = channels
        self.norm1 = nn.GroupNorm(cfg.groups, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.embed = nn.Linear(embedding, outside)
        self.norm2 = nn.GroupNorm(cfg.groups, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.skip = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)
        self.dropout = nn.Dropout(cfg.dropout)
        self.temporal = TemporalConvBlock(outside, cfg)
        zero(self.conv2)

    def forward(self, x: Tensor, shift: Tensor, time: Timeline) -> Tensor:
        """Transform frames (N, C, h, w), each with a shift (N, C') of its own from `embed`."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + shift[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.temporal(self.skip(x) + h, time)
        return out
