"""Conditioning of the network: noise levels, actions, a rate, a conditioning frame, a context."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Context:
    """Tokens that cross-attention reads.

    Attributes:
        text: (B, L, D) embedding of a prompt.
        image: (B F, M, D) tokens of the conditioning frame: one set for all frames (F = 1), or
            one for each (F = T).
    """

    text: Tensor
    image: Tensor


class ContextKeys(NamedTuple):
    """Keys and values of a context in one cross-attention: text (B, L, C), image (B F, M, C)."""

    text_key: Tensor
    text_value: Tensor
    image_key: Tensor
    image_value: Tensor


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of a window of T frames of B rollouts.

    Attributes:
        frame: (B, 1 or T, C, h, w) clean latent of the conditioning frame, for all or for each.
        actions: (B, T, A) the action that led to each frame, normalised; None for a network
            without actions.
        action_mask: (B, T) True or 1 keeps the action, False or 0 drops it.
        rate: (B,) frames per second; None for a network without a rate.
        context: See `UNet.context_keys`; empty for a network without cross-attention.
    """

    frame: Tensor
    actions: Tensor | None = None
    action_mask: Tensor | None = None
    rate: Tensor | None = None
    context: tuple[ContextKeys, ...] = ()


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
    """One vector for each value that can be on; an action is the sum of those that are."""

    def __init__(self, action_size: int, channels: int) -> None:
        """Build a table (A, channels)."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(action_size, channels))

    def forward(self, actions: Tensor) -> Tensor:
        """Turn on-off actions (..., A) into sums (..., channels)."""
        return actions @ self.weight


class ActionEmbedding(nn.Module):
    """Embed the action that led to each frame; a dropped action contributes nothing.

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
        """Embed actions (B, T, A), kept where `action_mask` (B, T) is set: (B, T, E)."""
        embedding: Tensor = self.layers(self.table(actions) if self.table else actions)
        return embedding * action_mask[..., None]
