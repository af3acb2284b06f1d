"""Layers within one frame: embeddings, attention, and spatial transformers.

Attention along time uses the same blocks; see `v2w_gym.world_models.vid2world.temporal`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig

FUSED_FROM = 2**16
"""Fewest scores per head for PyTorch's fused kernel, which never holds all of them in memory.

For fewer scores, plain products are faster on a CPU; the fused kernel slows training by a third.
"""

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(query, key, value), each (N, heads, L, c) -> attended values (N, heads, L, c)."""


def attend(query: Tensor, key: Tensor, value: Tensor, masked: Tensor | None = None) -> Tensor:
    """Return softmax(query @ key^T / sqrt(c)) @ value of heads (N, heads, L, c).

    Args:
        query: (N, heads, L, c).
        key: (N, heads, M, c).
        value: (N, heads, M, c).
        masked: (L, M) True for keys that a query must not attend to; None to attend to all.
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
    """Set a layer's parameters to zero, so that its residual branch starts as the identity."""
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
        """Return attended tokens (N, L, C); `read` decides which tokens attend to each other."""
        query, key, value = (
            split_heads(project(tokens), self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        out: Tensor = self.to_out(join_heads(read(query, key, value)))
        return out


@dataclass(frozen=True)
class Context:
    """The tokens of cross-attention.

    Attributes:
        text: (B, L, D) embedding of a prompt.
        image: (B F, M, D) tokens of the conditioning frame: one set for all frames (F = 1), or
            one per frame (F = T).
    """

    text: Tensor
    image: Tensor


class ContextKeys(NamedTuple):
    """Keys and values of a context in one cross-attention: text (B, L, C), image (B F, M, C)."""

    text_key: Tensor
    text_value: Tensor
    image_key: Tensor
    image_value: Tensor


class CrossAttention(nn.Module):
    """Cross-attention of frames to the prompt and to the conditioning image, with a softmax each.

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
        """Return the keys and values of a context, which change only with the context."""
        return ContextKeys(
            self.text_k(context.text),
            self.text_v(context.text),
            self.image_k(context.image),
            self.image_v(context.image),
        )

    def forward(self, tokens: Tensor, keys: ContextKeys) -> Tensor:
        """Return the values that tokens (N, L, C) attend to in the context of their frame."""
        query = self.to_q(tokens)
        text = self._read(query, keys.text_key, keys.text_value)
        pictured = self._read(query, keys.image_key, keys.image_value)
        out: Tensor = self.to_out(text + pictured)
        return out

    def _read(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from (N, L, C) to (K, M, C); N / K frames with the same keys form one sequence."""
        sequences = query.reshape(len(key), -1, query.shape[-1])
        heads = (split_heads(part, self.heads) for part in (sequences, key, value))
        return join_heads(attend(*heads)).reshape(query.shape)


class FeedForward(nn.Module):
    """A feed-forward network with a gated GELU, four times as wide inside."""

    def __init__(self, channels: int) -> None:
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
        """Build with a `second` self-attention, a cross-attention to a context, or None."""
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = attention
        self.norm2 = nn.LayerNorm(channels) if second is not None else None
        self.second = second
        self.norm3 = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor, first: Attend, second: Attend | ContextKeys | None) -> Tensor:
        """Return tokens (N, L, C); `first` and `second` are the inputs of each attention."""
        tokens = tokens + self.attention(self.norm1(tokens), first)
        if self.second is not None and self.norm2 is not None:
            tokens = tokens + self.second(self.norm2(tokens), second)
        out: Tensor = tokens + self.feed_forward(self.norm3(tokens))
        return out


class SpatialTransformer(nn.Module):
    """A transformer in which latent pixels attend to their frame, and to a context if any."""

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


class NumberEmbedding(nn.Module):
    """Embed numbers by sinusoids: a noise level per frame (Diffusion Forcing), or a rate.

    Source: Vid2World section 4.2.
    """

    def __init__(self, channels: int, embedding: int) -> None:
        """Build for sinusoids of `channels` values."""
        super().__init__()
        self.hidden = nn.Linear(channels, embedding)
        self.out = nn.Linear(embedding, embedding)

    def forward(self, numbers: Tensor) -> Tensor:
        """Turn numbers (...) into embeddings (..., E)."""
        half = self.hidden.in_features // 2
        powers = torch.arange(half, dtype=torch.float32, device=numbers.device) / half
        angles = numbers[..., None].float() * torch.exp(-math.log(10000) * powers)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.hidden.weight.dtype)
        embedding: Tensor = self.out(F.silu(self.hidden(waves)))
        return embedding


class ActionTable(nn.Module):
    """One vector per on-off value; an action is the sum of the vectors of those that are on."""

    def __init__(self, action_size: int, channels: int) -> None:
        """Build a table (A, channels)."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(action_size, channels))

    def forward(self, actions: Tensor) -> Tensor:
        """Turn on-off actions (..., A) into sums (..., channels)."""
        return actions @ self.weight


class ActionEmbedding(nn.Module):
    """Embed the action that led to each frame; a masked action contributes zero.

    Source: Vid2World section 4.2 (action injection per frame, dropout per frame).
    """

    def __init__(self, kind: str, action_size: int, channels: int, embedding: int) -> None:
        """Build for `linear` (continuous) or `table` (on-off) actions.

        Raises:
            ValueError: Unknown kind.
        """
        super().__init__()
        if kind not in ("linear", "table"):
            raise ValueError(f"expected action_embedding 'linear' or 'table', found {kind!r}")
        self.table = ActionTable(action_size, channels) if kind == "table" else None
        first = [nn.Linear(action_size, channels), nn.SiLU()] if kind == "linear" else []
        self.layers = nn.Sequential(
            *first, nn.Linear(channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )

    def forward(self, actions: Tensor, action_mask: Tensor) -> Tensor:
        """Embed actions (B, T, A), masked by `action_mask` (B, T), as (B, T, E)."""
        embedding: Tensor = self.layers(self.table(actions) if self.table else actions)
        return embedding * action_mask[..., None]
