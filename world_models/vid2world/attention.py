"""Attention inside a frame, and causal attention along time at every latent pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from world_models.vid2world.blocks import TemporalNorm, split_time, zero


class Attention(nn.Module):
    """Multi-head self-attention over (N, L, C) tokens; causal: no token sees a later one."""

    def __init__(self, channels: int, head_channels: int, *, causal: bool) -> None:
        """Build projections without bias, as in Stable Diffusion."""
        super().__init__()
        self.heads = channels // head_channels
        self.causal = causal
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return attended tokens (N, L, C)."""
        qkv = self.to_qkv(tokens).unflatten(-1, (3, self.heads, -1))  # (N, L, 3, heads, C/heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (N, heads, L, C/heads)
        # Plain products: at these lengths PyTorch's fused CPU kernel makes training a third slower.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        attended = scores.softmax(dim=-1) @ value
        out: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return out


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
    """Attention layers and a feed-forward network, each behind a layer norm and a skip."""

    def __init__(self, channels: int, head_channels: int, attentions: int, *, causal: bool) -> None:
        """Build `attentions` attention layers and one feed-forward network."""
        super().__init__()
        self.attentions = nn.ModuleList(
            Attention(channels, head_channels, causal=causal) for _ in range(attentions)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(attentions))
        self.norm = nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (N, L, C)."""
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            tokens = tokens + attention(norm(tokens))
        out: Tensor = tokens + self.feed_forward(self.norm(tokens))
        return out


class SpatialTransformer(nn.Module):
    """Every latent pixel attends to its own frame."""

    def __init__(self, channels: int, head_channels: int, groups: int) -> None:
        """Build with a zero output projection, so that it starts as the identity."""
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.project_in = nn.Linear(channels, channels)
        self.block = TransformerBlock(channels, head_channels, 1, causal=False)
        self.project_out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Transform frames (B * T, C, h, w)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (BT, hw, C)
        tokens = self.project_out(self.block(self.project_in(tokens)))
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class TemporalTransformer(nn.Module):
    """Every latent pixel attends to itself in this frame and in earlier ones.

    Source: Vid2World section 4.1: a causal mask in every temporal attention. As in DynamiCrafter
    there are two self-attentions and no positional encoding: order comes from the convolutions.
    """

    def __init__(self, channels: int, head_channels: int, groups: int, temporal_norm: str) -> None:
        """Build with a zero output projection, so that it starts as the identity."""
        super().__init__()
        self.norm = TemporalNorm(groups, channels, temporal_norm, eps=1e-6)
        self.project_in = nn.Linear(channels, channels)
        self.block = TransformerBlock(channels, head_channels, 2, causal=True)
        self.project_out = zero(nn.Linear(channels, channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Transform frames (B * T, C, h, w), T = `frames`."""
        normed = split_time(self.norm(x, frames), frames)  # (B, T, C, h, w)
        tokens = normed.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (B h w, T, C)
        tokens = self.project_out(self.block(self.project_in(tokens)))
        batch, _, _, height, width = normed.shape
        out = tokens.unflatten(0, (batch, height, width)).permute(0, 3, 4, 1, 2)
        return x + out.flatten(0, 1)
