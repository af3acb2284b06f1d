"""Temporal layers: everything in the network that lets a frame depend on other frames.

There are three: norms with pooled statistics, convolutions and attentions along time. Frames pass
them in one of three ways:

- full window: all frames at once (`FullWindow`);
- prefill: the same, and a cache is written (`FullWindow` with a `CacheWriter`);
- decode step: the newest frame alone, after a cache (`DecodeStep`).

With per-frame norms all three agree to rounding.
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
    """How temporal layers reach other frames in one forward pass."""

    @property
    def frames(self) -> int:
        """Frames of a rollout that pass (T)."""
        ...

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """Normalise frames (N, C, h, w) with statistics that all frames share."""
        ...

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """Convolve frames (N, C, h, w) along time; the last `after` taps lie in the future."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """Let each latent pixel read itself in other frames; all are (B hw, heads, T, c)."""
        ...


@dataclass(frozen=True)
class FullWindow:
    """All frames of a window pass at once; a `TemporalContext`.

    Attributes:
        frames: Their number (T).
        reach: Frames that causal attention reads, its own included; None for all before it.
        writer: Takes down what later frames need of these (prefill); None for a plain pass.
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
    """The newest frame of each rollout passes alone, after a cache; a `TemporalContext`.

    It passes in G guidance branches that share the cache: the history is the same in all of them.
    Rows are branch by branch, (G B, ...). The layers come in the order in which they were cached.

    Attributes:
        writer: Takes down this frame's own entry.
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

        The history's sums are frozen at what they were without this frame, an approximation:
        mean = (S + s) / n and variance = (Q + q) / n - mean^2, with the cached sums S and Q and
        this frame's own s and q.
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
        """See `TemporalContext.convolve`; only the newest of three taps is left to compute."""
        self.writer.conv_inputs.append(x)
        tap, older = next(self._taps)
        newest = F.conv2d(x, tap).unflatten(0, (-1, self.writer.rollouts))  # (G, B, C, h, w)
        return (newest + older.unflatten(2, x.shape[2:])).flatten(0, 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """See `TemporalContext.attend`; all branches read the cached keys and values at once."""
        self.writer.keys.append(key)
        self.writer.values.append(value)
        cached_keys, cached_values = next(self._keys_values)
        # A branch has one query per pixel: the branches take the place of a sequence.
        by_branch = (-1, *cached_keys.shape[:2])
        query, key, value = (  # (B, hw, heads, G, c)
            x[..., 0, :].unflatten(0, by_branch).movedim(0, 3) for x in (query, key, value)
        )
        # Scores of the cached frames, then of the frame itself: softmax([q K^T, q k] / sqrt(c)).
        own = (query * key).sum(-1, keepdim=True)
        scores = torch.cat([query @ cached_keys.mT, own], dim=-1) * query.shape[-1] ** -0.5
        weights = (scores + self._cache.mask.to(scores)).softmax(dim=-1)
        read = weights[..., :-1] @ cached_values + weights[..., -1:] * value
        return read.movedim(3, 0).flatten(0, 2)[..., None, :]  # (G B hw, heads, 1, c)


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

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        """Normalise frames (N, C, h, w)."""
        if self.pooled:
            return time.normalise(self.norm, x)
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

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
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

    def forward(self, x: Tensor, time: TemporalContext) -> Tensor:
        """Convolve frames (N, C, h, w) along time."""
        h = self.convs[0](F.silu(self.norms[0](x, time)), time)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            h = conv(self.dropout(F.silu(norm(h, time))), time)
        return x + h


class TemporalTransformer(nn.Module):
    """Every latent pixel attends to itself in this frame and in earlier ones.

    Source: Vid2World section 4.1: a causal mask in every temporal attention. As in DynamiCrafter
    there are two self-attentions and no positional encoding: order comes from the convolutions.
    """

    def __init__(self, channels: int, cfg: UNetConfig, heads: int = 0) -> None:
        """Build with a zero output projection.

        Args:
            channels: Channels that come in and go out.
            cfg: The network's settings.
            heads: Attention heads of `cfg.head_channels` each; 0 shares out `channels` instead.
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
    """Return which frames a frame must not read: (T, T), later ones and those beyond `reach`."""
    pairs = torch.ones(frames, frames, dtype=torch.bool, device=device)
    later = pairs.triu(1)
    return later if reach is None else later | pairs.tril(-reach)
