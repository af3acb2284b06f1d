"""Temporal layers, the only layers in which a frame depends on other frames.

There are three kinds: norms with pooled statistics, temporal convolutions and temporal attentions.
Frames pass through them in one of three ways:

- full window: all frames at once (`FullWindow`);
- prefill: the same, and a cache is written (`FullWindow` with a `CacheWriter`);
- decode step: the newest frame alone, with a cache of earlier ones (`DecodeStep`).

With per-frame norms all three agree up to rounding.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.world_models.vid2world.kv_cache import TAPS, CacheWriter, PreparedCache, sums
from v2w_gym.world_models.vid2world.layers import Attention, TransformerBlock, attend, zero


class TemporalContext(Protocol):
    """The access of temporal layers to other frames in one forward pass."""

    @property
    def frames(self) -> int:
        """Frames of a rollout in the pass (T)."""
        ...

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """Normalise frames (N, C, h, w) with statistics that all frames share."""
        ...

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """Convolve frames (N, C, h, w) along time; the last `after` taps read later frames."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """Attend along time at each latent pixel; all tensors are (B hw, heads, T, c)."""
        ...


@dataclass(frozen=True)
class FullWindow:
    """The `TemporalContext` of a pass over all frames of a window at once.

    Attributes:
        frames: Number of frames (T).
        reach: Frames that causal attention attends to, the own one included; None for all.
        writer: Collects the cache entries (prefill); None for a plain pass.
    """

    frames: int
    reach: int | None = None
    writer: CacheWriter | None = None

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        if self.writer is not None:
            by_frame = x.reshape(self.writer.rollouts, self.frames, norm.num_groups, -1)
            by_group = by_frame.transpose(1, 2).flatten(2)  # (B, groups, T C/groups hw)
            self.writer.norm_sums.append(sums(by_group.double()))
        pooled: Tensor = norm(self._volume(x))
        return pooled.transpose(1, 2).flatten(0, 1)  # (BT, C, h, w)

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """See `TemporalContext.convolve`; frames outside the window are zeros."""
        if self.writer is not None:
            self.writer.conv_inputs.append(x)
        padded = F.pad(self._volume(x), (0, 0, 0, 0, TAPS - 1 - after, after))
        convolved: Tensor = conv(padded)
        return convolved.transpose(1, 2).flatten(0, 1)  # (BT, C, h, w)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        if self.writer is not None:
            self.writer.keys.append(key)
            self.writer.values.append(value)
        masked = out_of_reach(self.frames, self.reach, query.device) if causal else None
        return attend(query, key, value, masked)

    def _volume(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # (B, C, T, h, w)


class DecodeStep:
    """The `TemporalContext` of a pass over the newest frame alone, with a cache of earlier ones.

    The frame passes in G guidance branches, which share the cache since their history is the same.
    Rows are branch by branch, (G B, ...). Layers use the cache in the order of its writing.

    Attributes:
        writer: Collects this frame's own cache entry.
    """

    frames = 1

    def __init__(self, cache: PreparedCache) -> None:
        self.writer = CacheWriter(len(cache.lengths))
        self._cache = cache
        self._taps = iter(cache.taps)
        self._keys_values = iter(zip(cache.keys, cache.values, strict=True))
        self._norm_sums = iter(cache.norm_sums)

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See `TemporalContext.normalise`.

        The history's sums are frozen at their values before this frame, which is an approximation:
        mean = (S + s) / n and variance = (Q + q) / n - mean^2. S and Q are the cached sums, s and q
        those of this frame.
        """
        groups = x.unflatten(0, (-1, self.writer.rollouts)).unflatten(2, (norm.num_groups, -1))
        groups = groups.flatten(3).float()  # (G, B, groups, C/groups hw)
        total = sums(groups.double()) + next(self._norm_sums)
        count = (groups.shape[-1] * (self._cache.lengths + 1))[:, None]  # (B, 1)
        mean = total[..., 0] / count
        scale = (total[..., 1] / count - mean**2 + norm.eps).rsqrt().float()
        mean = mean.float()
        normed = (groups - mean[..., None]) * scale[..., None]
        return normed.reshape(x.shape).to(x) * norm.weight[:, None, None] + norm.bias[:, None, None]

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """See `TemporalContext.convolve`; this computes the newest tap and adds the cached ones."""
        self.writer.conv_inputs.append(x)
        tap, older = next(self._taps)
        newest = F.conv2d(x, tap).unflatten(0, (-1, self.writer.rollouts))  # (G, B, C, h, w)
        return (newest + older.unflatten(2, x.shape[2:])).flatten(0, 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """See `TemporalContext.attend`; all branches share the cached keys and values."""
        self.writer.keys.append(key)
        self.writer.values.append(value)
        cached_keys, cached_values = next(self._keys_values)
        # Each branch has one query per pixel, so the branches form the sequence.
        by_branch = (-1, *cached_keys.shape[:2])
        query, key, value = (  # (B, hw, heads, G, c)
            x[..., 0, :].unflatten(0, by_branch).movedim(0, 3) for x in (query, key, value)
        )
        # Scores of the cached frames and of the frame itself: softmax([q K^T, q k] / sqrt(c)).
        own = (query * key).sum(-1, keepdim=True)
        scores = torch.cat([query @ cached_keys.mT, own], dim=-1) * query.shape[-1] ** -0.5
        weights = (scores + self._cache.mask.to(scores)).softmax(dim=-1)
        read = weights[..., :-1] @ cached_values + weights[..., -1:] * value
        return read.movedim(3, 0).flatten(0, 2)[..., None, :]  # (G B hw, heads, 1, c)


class TemporalNorm(nn.Module):
    """Group normalisation before a temporal layer.

    `per_frame` uses the statistics of each frame, which keeps the network strictly causal. `pooled`
    shares statistics over the window, as in the published checkpoints, so that features of past
    frames depend on the present frame.
    """

    def __init__(self, channels: int, cfg: UNetConfig, eps: float = 1e-5) -> None:
        """Build for `cfg.temporal_norm`."""
        super().__init__()
        self.pooled = cfg.temporal_norm == "pooled"
        self.norm = nn.GroupNorm(cfg.groups, channels, eps=eps)

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        """Normalise frames (N, C, h, w)."""
        if self.pooled:
            return time.normalise(self.norm, x)
        normed: Tensor = self.norm(x)
        return normed


class TemporalConv(nn.Module):
    """Convolution along time at every latent pixel.

    A causal one reads this frame and the two before it; another reads the previous, this and the
    next frame. Frames outside the window are zeros.
    Source: Vid2World section 4.1 (causal temporal convolution).
    """

    def __init__(self, channels: int, *, causal: bool) -> None:
        """Build one kernel (C, C, taps, 1, 1), oldest tap first."""
        super().__init__()
        self.after = 0 if causal else TAPS // 2
        self.conv = nn.Conv3d(channels, channels, (TAPS, 1, 1))

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        """Convolve frames (N, C, h, w) along time."""
        return time.convolve(self.conv, x, after=self.after)


class TemporalConvBlock(nn.Module):
    """A residual block of four temporal convolutions, which starts as the identity."""

    def __init__(self, channels: int, cfg: UNetConfig) -> None:
        """Build with a zero last convolution."""
        super().__init__()
        self.norms = nn.ModuleList(TemporalNorm(channels, cfg) for _ in range(4))
        self.convs = nn.ModuleList(TemporalConv(channels, causal=cfg.causal) for _ in range(4))
        self.dropout = nn.Dropout(cfg.dropout)
        zero(self.convs[-1])

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        """Convolve frames (N, C, h, w) along time."""
        h = self.convs[0](F.silu(self.norms[0](x, time)), time)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            h = conv(self.dropout(F.silu(norm(h, time))), time)
        return x + h


class TemporalTransformer(nn.Module):
    """A transformer in which each latent pixel attends to itself in this and earlier frames.

    As in DynamiCrafter it has two self-attentions and no positional encoding; only convolutions
    carry the order of frames.
    Source: Vid2World section 4.1, a causal mask in every temporal attention.
    """

    def __init__(self, channels: int, cfg: UNetConfig, heads: int = 0) -> None:
        """Build with a zero output projection.

        Args:
            channels: Input and output channels.
            cfg: The network's settings.
            heads: Attention heads of `cfg.head_channels` each; 0 for as many as `channels` has.
        """
        super().__init__()
        inner = heads * cfg.head_channels or channels
        heads = heads or channels // cfg.head_channels
        first, second = Attention(inner, heads), Attention(inner, heads)
        self.causal = cfg.causal
        self.norm = TemporalNorm(channels, cfg, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.block = TransformerBlock(inner, first, second)
        self.project_out = zero(nn.Linear(inner, channels))

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        """Transform frames (B T, C, h, w)."""
        normed = self.norm(x, time).unflatten(0, (-1, time.frames))  # (B, T, C, h, w)
        tokens = normed.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (B h w, T, C)
        read = partial(time.attend, causal=self.causal)
        tokens = self.project_out(self.block(self.project_in(tokens), read, read))
        batch, _, _, height, width = normed.shape
        out = tokens.unflatten(0, (batch, height, width)).permute(0, 3, 4, 1, 2)
        return x + out.flatten(0, 1)


def out_of_reach(frames: int, reach: int | None, device: torch.device) -> Tensor:
    """Return the mask (T, T) of later frames and of those beyond `reach`, for each frame."""
    pairs = torch.ones(frames, frames, dtype=torch.bool, device=device)
    later = pairs.triu(1)
    return later if reach is None else later | pairs.tril(-reach)
