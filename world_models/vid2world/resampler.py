"""From an image's CLIP tokens to the tokens that cross-attention reads."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import ResamplerConfig


class Resampler(nn.Module):
    """Learned queries gather what they need from any number of tokens, in any order.

    Source: DynamiCrafter (arXiv 2310.12190), its query transformer: the Perceiver Resampler of
    Flamingo (arXiv 2204.14198).
    """

    def __init__(self, cfg: ResamplerConfig, in_channels: int) -> None:
        """Build with fresh weights."""
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, cfg.tokens, cfg.channels) * cfg.channels**-0.5)
        self.project_in = nn.Linear(in_channels, cfg.channels)
        self.layers = nn.ModuleList(_Layer(cfg) for _ in range(cfg.layers))
        self.project_out = nn.Linear(cfg.channels, cfg.out_channels)
        self.norm = nn.LayerNorm(cfg.out_channels)

    def forward(self, tokens: Tensor) -> Tensor:
        """Turn tokens (N, L, in_channels) into (N, M, out_channels), M = `cfg.tokens`."""
        tokens = self.project_in(tokens)
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            latents = layer(latents, tokens)
        out: Tensor = self.norm(self.project_out(latents))
        return out


class _Layer(nn.Module):
    def __init__(self, cfg: ResamplerConfig) -> None:
        super().__init__()
        self.heads = cfg.heads
        inner = cfg.heads * cfg.head_channels
        self.norm_tokens = nn.LayerNorm(cfg.channels)
        self.norm_latents = nn.LayerNorm(cfg.channels)
        self.to_q = nn.Linear(cfg.channels, inner, bias=False)
        self.to_kv = nn.Linear(cfg.channels, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, cfg.channels, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(cfg.channels),
            nn.Linear(cfg.channels, cfg.hidden, bias=False),
            nn.GELU(),
            nn.Linear(cfg.hidden, cfg.channels, bias=False),
        )

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        latents = latents + self._attend(self.norm_latents(latents), self.norm_tokens(tokens))
        out: Tensor = latents + self.feed_forward(latents)
        return out

    def _attend(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Let the latents look at the tokens and at each other."""
        seen = self.to_kv(torch.cat([tokens, latents], dim=1))
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, L, head_channels)
            for part in (self.to_q(latents), *seen.chunk(2, dim=-1))
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return out
