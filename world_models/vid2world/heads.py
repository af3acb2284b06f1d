"""Softmax attention of heads."""

import torch
import torch.nn.functional as F
from torch import Tensor

FUSED_FROM = 2**16
"""Scores per head from which PyTorch's fused kernel is used: it never holds all of them.

Below it plain products are faster on a CPU, where the fused kernel makes training a third slower.
"""


def attend(query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Return softmax(query @ key^T / sqrt(c)) @ value of heads (N, heads, L, c).

    Args:
        query: (N, heads, L, c).
        key: (N, heads, M, c).
        value: (N, heads, M, c).
        hidden: (L, M) True where a query must not read; None to read everything.
    """
    if query.shape[-2] * key.shape[-2] >= FUSED_FROM:
        seen = None if hidden is None else ~hidden
        return F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores.softmax(dim=-1) @ value


def beyond(frames: int, reach: int | None, device: torch.device) -> Tensor:
    """Return which frames a frame must not read: (T, T), later ones and those out of reach."""
    pairs = torch.ones(frames, frames, dtype=torch.bool, device=device)
    later = pairs.triu(1)
    return later if reach is None else later | pairs.tril(-reach)


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Turn tokens (N, L, C) into heads (N, heads, L, C / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(attended: Tensor) -> Tensor:
    """Turn heads (N, heads, L, c) into tokens (N, L, heads * c)."""
    return attended.transpose(1, 2).flatten(2)
