"""Attention inside a frame, along time at every latent pixel, and to the conditioning frame."""

import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.world_models.vid2world.blocks import TemporalNorm, zero
from v2w_gym.world_models.vid2world.conditioning import Context, ContextKeys
from v2w_gym.world_models.vid2world.heads import attend, join_heads, split_heads
from v2w_gym.world_models.vid2world.temporal import Timeline


class Attention(nn.Module):
    """Multi-head self-attention over (N, L, C) tokens."""

    def __init__(self, channels: int, heads: int, *, causal: bool = False) -> None:
        """Build projections without bias, as in Stable Diffusion; `causal` is about time."""
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, time: Timeline | None = None) -> Tensor:
        """Return attended tokens (N, L, C); the L are frames where there is a `time`."""
        query, key, value = (
            split_heads(project(tokens), self.heads)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        if time is None:
            attended = attend(query, key, value)
        else:
            attended = time.attend(query, key, value, causal=self.causal)
        out: Tensor = self.to_out(join_heads(attended))
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

    def forward(
        self, tokens: Tensor, first: Timeline | None, second: Timeline | ContextKeys | None
    ) -> Tensor:
        """Return tokens (N, L, C); `first` and `second` are what each attention looks at."""
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
        tokens = self.project_out(self.block(self.project_in(tokens), None, keys))
        return x + tokens.transpose(1, 2).unflatten(2, x.shape[2:])


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
        first, second = (Attention(inner, heads, causal=cfg.causal) for _ in range(2))
        self.norm = TemporalNorm(channels, cfg, eps=1e-6)
        self.project_in = nn.Linear(channels, inner)
        self.block = TransformerBlock(inner, first, second)
        self.project_out = zero(nn.Linear(inner, channels))

    def forward(self, x: Tensor, time: Timeline) -> Tensor:
        """Transform frames (B * T, C, h, w)."""
        normed = self.norm(x, time).unflatten(0, (-1, time.frames))  # (B, T, C, h, w)
        tokens = normed.permute(0, 3, 4, 1, 2).flatten(0, 2)  # (B h w, T, C)
        tokens = self.project_out(self.block(self.project_in(tokens), time, time))
        batch, _, _, height, width = normed.shape
        out = tokens.unflatten(0, (batch, height, width)).permute(0, 3, 4, 1, 2)
        return x + out.flatten(0, 1)
