"""The denoising network: a U-Net over frames whose temporal layers only look back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.configs.names import lookup
from v2w_gym.world_models.vid2world.attention import (
    CrossAttention,
    SpatialTransformer,
    TemporalTransformer,
)
from v2w_gym.world_models.vid2world.blocks import ResBlock, TemporalConv, zero
from v2w_gym.world_models.vid2world.conditioning import (
    ActionEmbedding,
    Conditioning,
    Context,
    ContextKeys,
    NumberEmbedding,
)
from v2w_gym.world_models.vid2world.published.quirks import HeightCausalConv
from v2w_gym.world_models.vid2world.temporal import Timeline, Window

OUTPUT_CONVS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "plain": lambda channels, out: nn.Conv2d(channels, out, 3, padding=1),
    "height_causal": HeightCausalConv,
}


class UNet(nn.Module):
    """Predict the velocity of every frame of a window from frames up to it.

    Source: DynamiCrafter's network, made causal and action-conditioned (Vid2World section 4).
    """

    def __init__(self, cfg: UNetConfig, latent_channels: int, action_size: int) -> None:
        """Build with fresh weights; the last convolution starts at zero.

        Raises:
            ValueError: An unknown kind of temporal norm, action embedding or output convolution.
        """
        super().__init__()
        widths = [cfg.channels * m for m in cfg.channel_multipliers]
        embedding = 4 * cfg.channels
        self.noise_embedding = NumberEmbedding(cfg.channels, embedding)
        self.rate_embedding = (
            NumberEmbedding(cfg.channels, embedding) if cfg.rate_embedding else None
        )
        self.action_embedding = (
            ActionEmbedding(cfg.action_embedding, action_size, cfg.channels, embedding)
            if cfg.action_embedding != "none"
            else None
        )
        self.conv_in = nn.Conv2d(2 * latent_channels, widths[0], 3, padding=1)
        self.initial_attention = (
            TemporalTransformer(widths[0], cfg, cfg.initial_attention_heads)
            if cfg.initial_attention
            else None
        )
        self.down, skips = _make_down(cfg, widths, embedding)
        self.middle = nn.ModuleList(
            [
                _Stage(cfg, (widths[-1], widths[-1]), embedding, attention=True),
                _Stage(cfg, (widths[-1], widths[-1]), embedding, attention=False),
            ]
        )
        self.up = _make_up(cfg, widths, embedding, skips)
        self.norm_out = nn.GroupNorm(cfg.groups, widths[0])
        make_conv = lookup(OUTPUT_CONVS, cfg.output_conv, "output_conv")
        self.conv_out = zero(make_conv(widths[0], latent_channels))
        layers = tuple(self.modules())  # in the order in which frames pass
        self._blocks = tuple(x for x in layers if isinstance(x, ResBlock))
        self._cross_attentions = tuple(x for x in layers if isinstance(x, CrossAttention))
        self.temporal_convs = tuple(x.conv for x in layers if isinstance(x, TemporalConv))

    def forward(
        self, noisy: Tensor, noise_levels: Tensor, told: Conditioning, time: Timeline | None = None
    ) -> Tensor:
        """Return the velocity (B, T, C, h, w) of every frame.

        Args:
            noisy: (B, T, C, h, w) latents, each frame at its own noise level.
            noise_levels: (B, T) int64.
            told: What else the network is told.
            time: How frames see each other; None for a whole `Window`.
        """
        embedding = self.embed(noise_levels, told).flatten(0, 1)
        time = time or Window(noisy.shape[1])
        return self.run(noisy, told.frame, self.shifts(embedding), told.context, time)

    def embed(self, noise_levels: Tensor, told: Conditioning) -> Tensor:
        """Return one embedding per frame (B, T, E)."""
        embedding: Tensor = self.noise_embedding(noise_levels)
        if self.rate_embedding is not None:
            embedding = embedding + self.rate_embedding(told.rate)[:, None]
        if self.action_embedding is not None:
            embedding = embedding + self.action_embedding(told.actions, told.action_mask)
        return embedding

    def shifts(self, embedding: Tensor) -> list[Tensor]:
        """Return what embeddings (..., E) come to in each residual block: (..., C') each."""
        activated = F.silu(embedding)
        return [block.embed(activated) for block in self._blocks]

    def context_keys(self, context: Context) -> tuple[ContextKeys, ...]:
        """Return what each cross-attention reads of a context, in order."""
        return tuple(layer.keys(context) for layer in self._cross_attentions)

    def run(
        self,
        noisy: Tensor,
        frame: Tensor,
        shifts: Sequence[Tensor],
        context: Sequence[ContextKeys],
        time: Timeline,
    ) -> Tensor:
        """Return the velocity (G B, T, C, h, w) of every frame, in G branches.

        Branches that differ in their shifts or context alone share the layers before these.

        Args:
            noisy: (B, T, C, h, w) latents.
            frame: (B, 1 or T, C, h, w) clean latent of the conditioning frame.
            shifts: See `shifts`; (G B T, C') each, branch by branch.
            context: See `context_keys`; for G B rollouts.
            time: How frames see each other.
        """
        frames = noisy.shape[1]
        conditioned = torch.cat([noisy, frame.expand_as(noisy)], dim=2)
        x = self.conv_in(conditioned.flatten(0, 1))  # (BT, width, h, w)
        if self.initial_attention is not None:
            x = self.initial_attention(x, time)
        x = x.repeat(len(shifts[0]) // len(x), 1, 1, 1)  # (G B T, width, h, w)
        inputs = _Inputs(iter(shifts), iter(context), time)
        skips = [x]
        for layer in self.down:
            x = layer(x, inputs)
            skips.append(x)
        for layer in self.middle:
            x = layer(x, inputs)
        for layer in self.up:
            x = layer(torch.cat([x, skips.pop()], dim=1), inputs)
        velocity: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return velocity.unflatten(0, (-1, frames))


@dataclass(frozen=True)
class _Inputs:
    """What the layers are given besides features; each takes the next of what is its own."""

    shifts: Iterator[Tensor]
    context: Iterator[ContextKeys]
    time: Timeline


class _Stage(nn.Module):
    """A residual block, transformers where asked for, and a change of size where asked for."""

    def __init__(
        self,
        cfg: UNetConfig,
        channels: tuple[int, int],
        embedding: int,
        *,
        attention: bool,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        outside = channels[1]
        self.res = ResBlock(channels, embedding, cfg)
        self.spatial = SpatialTransformer(outside, cfg) if attention else None
        self.temporal = TemporalTransformer(outside, cfg) if attention else None
        self.upsample = nn.Conv2d(outside, outside, 3, padding=1) if upsample else None

    def forward(self, x: Tensor, inputs: _Inputs) -> Tensor:
        x = self.res(x, next(inputs.shifts), inputs.time)
        if self.spatial is not None and self.temporal is not None:
            x = self.temporal(self.spatial(x, next(inputs.context, None)), inputs.time)
        if self.upsample is not None:
            x = self.upsample(F.interpolate(x, scale_factor=2))
        return x


class _Downsample(nn.Module):
    """Halve height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, inputs: _Inputs) -> Tensor:
        halved: Tensor = self.conv(x)
        return halved


def _make_down(
    cfg: UNetConfig, widths: list[int], embedding: int
) -> tuple[nn.ModuleList, list[int]]:
    """Return the layers of the way down and the width after each, the first convolution's first."""
    layers: list[nn.Module] = []
    skips = [widths[0]]
    for level, width in enumerate(widths):
        attention = 2**level in cfg.attention_sizes
        for _ in range(cfg.blocks):
            layers.append(_Stage(cfg, (skips[-1], width), embedding, attention=attention))
            skips.append(width)
        if level < len(widths) - 1:
            layers.append(_Downsample(width))
            skips.append(width)
    return nn.ModuleList(layers), skips


def _make_up(cfg: UNetConfig, widths: list[int], embedding: int, skips: list[int]) -> nn.ModuleList:
    """Return the layers of the way up, each of which takes one skip."""
    layers, below, remaining = [], widths[-1], list(skips)
    for level, width in reversed(list(enumerate(widths))):
        attention = 2**level in cfg.attention_sizes
        for block in range(cfg.blocks + 1):
            upsample = level > 0 and block == cfg.blocks
            channels = (below + remaining.pop(), width)
            layers.append(_Stage(cfg, channels, embedding, attention=attention, upsample=upsample))
            below = width
    return nn.ModuleList(layers)
