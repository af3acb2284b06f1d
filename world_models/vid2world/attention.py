"""Attention: softmax over heads, transformer blocks, and attention inside a frame.

Attention along time uses the same blocks; see `v2w_gym.world_models.vid2world.temporal`.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.world_models.vid2world.conditioning import Context, ContextKeys

FUSED_FROM = 2**16
"""Scores per head from which PyTorch's fused kernel is used: it never holds all of them.

Below it plain products are faster on a CPU, where the fused kernel makes training a third slower.
"""

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(query, key, value), each (N, heads, L, c) -> what the queries read, (N, heads, L, c)."""


def attend(query: Tensor, key: Tensor, value: Tensor, masked: Tensor | None = None) -> Tensor:
    """Return softmax(query @ key^T / sqrt(c)) @ value of heads (N, heads, L, c).

    Args:
        query: (N, heads, L, c).
        key: (N, heads, M, c).
        value: (N, heads, M, c).
        masked: (L, M) True where a query must not read; None to read everything.
    """
    if query.shape[-2] * key.shape[-2] >= FUSED_FROM:
        allowed = None if masked is None else ~masked
        return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if masked is not None:
        scores = scores.masked_fill(masked, float("-inf"))
    return scores.softmax(dim=-1) @ value


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Turn tokens (N, L, C) into heads (N, heads, L, C / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(attended: Tensor) -> Tensor:
    """Turn heads (N, heads, L, c) into tokens (N, L, heads * c)."""
    return attended.transpose(1, 2).flatten(2)


def zero(layer: nn.Module) -> nn.Module:
    """Set a layer's parameters to zero, so that what it is added to starts unchanged."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Attention(nn.Module):
    """Multi-head self-attention over (N, L, C) tokens."""

    def __init__(self, channels: int, heads: int) -> None:
        """Build projections without bias, as in Stable Diffusion."""
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, read: Attend = attend) -> Tensor:
        """Return attended tokens (N, L, C); `read` says which tokens see each other."""
        query, key, value = (
            split_heads(project(tokens), self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        out: Tensor = self.to_out(join_heads(read(query, key, value)))
        return out


class CrossAttention(nn.Module):
    """Frames read the prompt and the conditioning image, each through a softmax of its own.

    Source: DynamiCrafter section 3.2 (dual-stream image injection).
    """

    def __init__(self, channels: int, context_channels: int, heads: int) -> None:
        """Build one query and two pairs of key and value projections."""
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.text_k = nn.Linear(context_channels, channels, bias=False)
        self.text_v = nn.Linear(context_channels, channels, bias=False)
        self.image_k = nn.Linear(context_channels, channels, bias=False)
        self.image_v = nn.Linear(context_channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def keys(self, context: Context) -> ContextKeys:
        """Return what is read of a context: it does not change while the context stays."""
        return ContextKeys(
            self.text_k(context.text),
            self.text_v(context.text),
            self.image_k(context.image),
            self.image_v(context.image),
        )

    def forward(self, tokens: Tensor, keys: ContextKeys) -> Tensor:
        """Return what tokens (N, L, C) read in the context of their rollout and frame."""
        query = self.to_q(tokens)
        text = self._read(query, keys.text_key, keys.text_value)
        pictured = self._read(query, keys.image_key, keys.image_value)
        out: Tensor = self.to_out(text + pictured)
        return out

    def _read(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from (N, L, C) to (K, M, C); the N / K frames that share keys are one sequence."""
        sequences = query.reshape(len(key), -1, query.shape[-1])
        heads = (split_heads(part, self.heads) for part in (sequences, key, value))
        return join_heads(attend(*heads)).reshape(query.shape)


class FeedForward(nn.Module):
    """Gated GELU network, four times as wide inside."""

    def __init__(self, channels: int) -> None:
        """Build both projections."""
        super().__init__()
        self.project = nn.Linear(channels, 8 * channels)
        self.out = nn.Linear(4 * channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        value, gate = self.project(tokens).chunk(2, dim=-1)
        out: Tensor = self.out(value * F.gelu(gate))
        return out


class TransformerBlock(nn.Module):
    """One or two attention layers and a feed-forward network, each behind a norm and a skip."""

    def __init__(self, channels: int, attention: Attention, second: nn.Module | None) -> None:
        """Build; `second` is another self-attention, or a cross-attention to a context."""
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = attention
        self.norm2 = nn.LayerNorm(channels) if second is not None else None
        self.second = second
        self.norm3 = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor, first: Attend, second: Attend | ContextKeys | None) -> Tensor:
        """Return tokens (N, L, C); `first` and `second` are what each attention reads."""
        tokens = tokens + self.attention(self.norm1(tokens), first)
        if self.second is not None and self.norm2 is not None:
            tokens = tokens + self.second(self.norm2(tokens), second)
        out: Tensor = tokens + self.feed_forward(self.norm3(tokens))
        return out


class SpatialTransformer(nn.Module):
    """Every latent pixel attends to its own frame, and to the context where there is one."""

    def __init__(self, channels: int, cfg: UNetConfig) -> None:
        """Build with a zero output projection, so that it starts as the identity."""
        super().__init__()
        heads = channels // cfg.head_channels
        cross = (
            CrossAttention(channels, cfg.context_channels, heads) if cfg.context_channels else None
        )
        self.norm = nn.GroupNorm(cfg.groups, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, channels)
        self.block = TransformerBlock(channels, Attention(channels, heads), cross)
        self.project_out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, keys: ContextKeys | None) -> Tensor:
        """Transform frames (N, C, h, w)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (N, hw, C)
        tokens = self.project_out(self.block(self.project_in(tokens), attend, keys))
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])
