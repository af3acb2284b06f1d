"""What a frame is told: its own noise level, and the action that led to it."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseLevelEmbedding(nn.Module):
    """Embed one noise level per frame (Diffusion Forcing). Source: Vid2World section 4.2."""

    frequencies: Tensor

    def __init__(self, channels: int, embedding: int) -> None:
        """Build for sinusoids of `channels` values."""
        super().__init__()
        half = channels // 2
        powers = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("frequencies", powers, persistent=False)
        self.hidden = nn.Linear(channels, embedding)
        self.out = nn.Linear(embedding, embedding)

    def forward(self, levels: Tensor) -> Tensor:
        """Turn levels (B, T) into embeddings (B, T, E)."""
        angles = levels[..., None].float() * self.frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedding: Tensor = self.out(F.silu(self.hidden(waves)))
        return embedding


class ActionEmbedding(nn.Module):
    """Embed the action that led to each frame; a hidden action contributes nothing.

    Source: Vid2World section 4.2 (action injection per frame, dropout per frame).
    """

    def __init__(self, action_size: int, channels: int, embedding: int) -> None:
        """Build a network of three linear layers."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(action_size, channels),
            nn.SiLU(),
            nn.Linear(channels, embedding),
            nn.SiLU(),
            nn.Linear(embedding, embedding),
        )

    def forward(self, actions: Tensor, action_mask: Tensor) -> Tensor:
        """Embed actions (B, T, A), kept where `action_mask` (B, T) is True: (B, T, E)."""
        embedding: Tensor = self.layers(actions)
        return embedding * action_mask[..., None]
