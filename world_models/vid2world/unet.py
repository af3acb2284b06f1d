"""The denoising network: a U-Net over frames with causal temporal layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.configs.names import lookup
from v2w_gym.world_models.state import Nested
from v2w_gym.world_models.vid2world.kv_cache import CacheWriter, PreparedCache
from v2w_gym.world_models.vid2world.layers import (
    ActionEmbedding,
    Context,
    ContextKeys,
    CrossAttention,
    NumberEmbedding,
    SpatialTransformer,
    zero,
)
from v2w_gym.world_models.vid2world.published.quirks import HeightCausalConv
from v2w_gym.world_models.vid2world.temporal import (
    DecodeStep,
    FullWindow,
    TemporalContext,
    TemporalConv,
    TemporalConvBlock,
    TemporalTransformer,
)

OUTPUT_CONVS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "plain": lambda channels, out: nn.Conv2d(channels, out, 3, padding=1),
    "height_causal": HeightCausalConv,
}


@dataclass(frozen=True)
class Conditioning:
    """Conditioning of a window of T frames of B rollouts.

    Attributes:
        frame: (B, 1 or T, C, h, w) clean latent of the conditioning frame, one for all or each.
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


class UNet(nn.Module):
    """A network that predicts the velocity of every frame of a window from frames up to it.

    Source: DynamiCrafter's network, made causal and action-conditioned (Vid2World section 4).
    """

    def __init__(self, cfg: UNetConfig, latent_channels: int, action_size: int) -> None:
        """Build with a zero last convolution.

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
        layers = tuple(self.modules())  # in forward order
        self._blocks = tuple(x for x in layers if isinstance(x, ResBlock))
        self._cross_attentions = tuple(x for x in layers if isinstance(x, CrossAttention))
        self.temporal_convs = tuple(x.conv for x in layers if isinstance(x, TemporalConv))

    def forward(
        self,
        noisy: Tensor,
        noise_levels: Tensor,
        conditioning: Conditioning,
        time: FullWindow | None = None,
    ) -> Tensor:
        """Return the velocity (B, T, C, h, w) of every frame of a window.

        Args:
            noisy: (B, T, C, h, w) latents, each frame at its own noise level.
            noise_levels: (B, T) int64.
            conditioning: Actions, rate, conditioning frame and context.
            time: Access to other frames; None for all earlier ones.
        """
        embedding = self.embed(noise_levels, conditioning).flatten(0, 1)
        shifts, context = self.shifts(embedding), conditioning.context
        return self._run(
            noisy, conditioning.frame, shifts, context, time or FullWindow(noisy.shape[1])
        )

    def decode_step(self, inputs: "DecodeInputs") -> tuple[Tensor, CacheWriter]:
        """Pass the newest frame alone, with a cache of earlier ones.

        Returns:
            Its velocity (G B, 1, C, h, w), and its cache entry in a writer.
        """
        time = DecodeStep(inputs.cache)
        velocity = self._run(inputs.noisy, inputs.frame, inputs.shifts, inputs.context, time)
        return velocity, time.writer

    def decode_velocity(self, inputs: Nested) -> tuple[Tensor]:
        """Return the velocity of `decode_step`, as a function of nested tensors to capture."""
        return (self.decode_step(DecodeInputs(*inputs))[0],)

    def embed(self, noise_levels: Tensor, conditioning: Conditioning) -> Tensor:
        """Return one embedding per frame (B, T, E)."""
        embedding: Tensor = self.noise_embedding(noise_levels)
        if self.rate_embedding is not None:
            embedding = embedding + self.rate_embedding(conditioning.rate)[:, None]
        if self.action_embedding is not None:
            embedding = embedding + self.action_embedding(
                conditioning.actions, conditioning.action_mask
            )
        return embedding

    def shifts(self, embedding: Tensor) -> list[Tensor]:
        """Return the shifts of all residual blocks for embeddings (..., E): (..., C') each."""
        activated = F.silu(embedding)
        return [block.embed(activated) for block in self._blocks]

    def context_keys(self, context: Context) -> tuple[ContextKeys, ...]:
        """Return the keys and values of a context in each cross-attention, in order."""
        return tuple(layer.keys(context) for layer in self._cross_attentions)

    def _run(
        self,
        noisy: Tensor,
        frame: Tensor,
        shifts: Sequence[Tensor],
        context: Sequence[ContextKeys],
        time: TemporalContext,
    ) -> Tensor:
        """Return the velocity (G B, T, C, h, w) of every frame, in G branches.

        Branches differ in shifts and context alone, so they share the layers before these.

        Args:
            noisy: (B, T, C, h, w) latents.
            frame: (B, 1 or T, C, h, w) clean latent of the conditioning frame.
            shifts: See `shifts`; (G B T, C') each, branch by branch.
            context: See `context_keys`; for G B rollouts.
            time: Access to other frames.
        """
        frames = noisy.shape[1]
        conditioned = torch.cat([noisy, frame.expand_as(noisy)], dim=2)
        x = self.conv_in(conditioned.flatten(0, 1))  # (BT, width, h, w)
        if self.initial_attention is not None:
            x = self.initial_attention(x, time)
        x = x.repeat(len(shifts[0]) // len(x), 1, 1, 1)  # (G B T, width, h, w)
        inputs = _LayerInputs(iter(shifts), iter(context), time)
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


class DecodeInputs(NamedTuple):
    """One frame of B rollouts, in G guidance branches.

    Attributes:
        noisy: (B, 1, C, h, w) latents.
        frame: (B, 1, C, h, w) clean latent of the conditioning frame.
        shifts: See `UNet.shifts`; (G B, C') each.
        context: See `UNet.context_keys`; for G B rollouts.
        cache: Cache of the earlier frames.
    """

    noisy: Tensor
    frame: Tensor
    shifts: tuple[Tensor, ...]
    context: tuple[ContextKeys, ...]
    cache: PreparedCache


@dataclass(frozen=True)
class _LayerInputs:
    """Inputs of layers besides features; each layer takes the next item of its kind."""

    shifts: Iterator[Tensor]
    context: Iterator[ContextKeys]
    time: TemporalContext


class ResBlock(nn.Module):
    """Two spatial convolutions with a shift by the embedding, then a temporal block."""

    def __init__(self, channels: tuple[int, int], embedding: int, cfg: UNetConfig) -> None:
        """Build for `channels` = (in, out), with a zero second convolution."""
        super().__init__()
        inside, outside = channels
        self.norm1 = nn.GroupNorm(cfg.groups, inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.embed = nn.Linear(embedding, outside)
        self.norm2 = nn.GroupNorm(cfg.groups, outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.skip = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)
        self.dropout = nn.Dropout(cfg.dropout)
        self.temporal = TemporalConvBlock(outside, cfg)
        zero(self.conv2)

    def forward(self, x: Tensor, shift: Tensor, time: TemporalContext) -> Tensor:
        """Transform frames (N, C, h, w) with a shift (N, C') each, from `embed`."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + shift[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        out: Tensor = self.temporal(self.skip(x) + h, time)
        return out


class _Stage(nn.Module):
    """A residual block, then optional transformers and an optional upsampling."""

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

    def forward(self, x: Tensor, inputs: _LayerInputs) -> Tensor:
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

    def forward(self, x: Tensor, inputs: _LayerInputs) -> Tensor:
        halved: Tensor = self.conv(x)
        return halved


def _make_down(
    cfg: UNetConfig, widths: list[int], embedding: int
) -> tuple[nn.ModuleList, list[int]]:
    """Return the layers of the way down, and the width of each skip, first convolution first."""
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
    """Return the layers of the way up; each takes one skip."""
    layers, below, remaining = [], widths[-1], list(skips)
    for level, width in reversed(list(enumerate(widths))):
        attention = 2**level in cfg.attention_sizes
        for block in range(cfg.blocks + 1):
            upsample = level > 0 and block == cfg.blocks
            channels = (below + remaining.pop(), width)
            layers.append(_Stage(cfg, channels, embedding, attention=attention, upsample=upsample))
            below = width
    return nn.ModuleList(layers)
