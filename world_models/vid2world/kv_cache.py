"""The KV cache: what temporal layers computed of earlier frames, so that the next one passes alone.

In a causal network a frame depends on itself and on earlier frames. What its temporal layers hand
to later frames is computed once: keys and values of attention, and inputs of convolutions. With
pooled norms it depends on later frames too, so a cache is exact for per-frame norms only; see
`v2w_gym.world_models.vid2world.next_frame`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 3
"""Frames that a temporal convolution reads."""


class KVCache(NamedTuple):
    """What L earlier frames of B rollouts hand to the next one, oldest first.

    The capacity L is fixed. Zeros stand in front where a rollout has fewer frames.

    Attributes:
        conv_inputs: Of each temporal convolution, (B, C, 2, hw): its input at the last two frames.
        keys: Of each temporal attention, (B, hw, heads, L, c).
        values: As the keys.
        norm_sums: Of each pooled norm, (B, groups, 2), float64: sum and sum of squares over all
            L frames. Large sums are subtracted later, hence the precision. Empty where norms are
            per frame.
        velocity_sums: (B, L, 2), float32: sum and sum of squares of each frame's velocity. The
            guidance rescale reads them.
    """

    conv_inputs: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    norm_sums: tuple[Tensor, ...]
    velocity_sums: Tensor

    @property
    def capacity(self) -> int:
        """Frames that there is room for (L)."""
        return self.velocity_sums.shape[1]

    def padded(self, capacity: int) -> "KVCache":
        """Return the cache with room for more frames; zeros stand in front."""
        return KVCache(
            tuple(_newest(x, TAPS - 1) for x in self.conv_inputs),
            tuple(_newest(x, capacity) for x in self.keys),
            tuple(_newest(x, capacity) for x in self.values),
            self.norm_sums,
            _newest(self.velocity_sums, capacity),
        )

    def evict(self) -> "KVCache":
        """Return the cache without its oldest frame."""
        return self._replace(
            conv_inputs=tuple(x[..., 1:, :] for x in self.conv_inputs),
            keys=tuple(x[..., 1:, :] for x in self.keys),
            values=tuple(x[..., 1:, :] for x in self.values),
            velocity_sums=self.velocity_sums[:, 1:],
        )

    def append(self, frame: "KVCache") -> "KVCache":
        """Return the cache with the entry of one more frame; norms must be per frame.

        Attention has no positional encoding, so keys that move up by one place stay as they are.
        """

        def joined(old: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensor, ...]:
            pairs = zip(old, new, strict=True)
            return tuple(torch.cat([o, n], dim=-2) for o, n in pairs)

        return KVCache(
            joined(self.conv_inputs, frame.conv_inputs),
            joined(self.keys, frame.keys),
            joined(self.values, frame.values),
            (),
            torch.cat([self.velocity_sums, frame.velocity_sums], dim=1),
        )

    def prepared(self, lengths: Tensor, convs: Sequence[nn.Conv3d]) -> "PreparedCache":
        """Compute once what every denoising step of the next frame would compute again.

        Args:
            lengths: (B,) on the CPU, how many frames there are; at most L of them are cached.
            convs: The network's temporal convolutions, in order.
        """
        lengths = lengths.clamp(max=self.capacity)
        # L + 1 columns: the cached frames, then the newest. The first L - length hold no frame.
        columns = torch.arange(self.capacity + 1, device=lengths.device)
        empty = columns < (self.capacity - lengths)[:, None]  # (B, L + 1)
        mask = torch.zeros_like(empty, dtype=torch.float32).masked_fill(empty, float("-inf"))
        return PreparedCache(
            lengths.to(self.velocity_sums),
            mask[:, None, None, None].to(self.velocity_sums),
            tuple(_split_taps(c, x) for c, x in zip(convs, self.conv_inputs, strict=True)),
            self.keys,
            self.values,
            self.norm_sums,
            self.velocity_sums.sum(1),
        )


class PreparedCache(NamedTuple):
    """A cache, ready for every denoising step of one frame of B rollouts.

    Attributes:
        lengths: (B,) float32, how many frames are cached.
        mask: (B, 1, 1, 1, L + 1), float32, is added to attention scores: minus infinity where
            there is no frame, else 0.
        taps: Of each temporal convolution, the newest tap (C, C, 1, 1) and what the older taps and
            the bias add up to (B, C, hw).
        keys: See `KVCache`.
        values: See `KVCache`.
        norm_sums: See `KVCache`.
        velocity_sums: (B, 2), over all cached frames.
    """

    lengths: Tensor
    mask: Tensor
    taps: tuple[tuple[Tensor, Tensor], ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    norm_sums: tuple[Tensor, ...]
    velocity_sums: Tensor


@dataclass
class CacheWriter:
    """Takes down, layer by layer, what one pass over T frames of B rollouts leaves in a cache."""

    rollouts: int
    conv_inputs: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    norm_sums: list[Tensor] = field(default_factory=list)

    def cache(self, velocity: Tensor) -> KVCache:
        """Return a cache of T frames, given the velocity (B, T, C, h, w) that came out."""
        by_rollout = (self.rollouts, -1)
        conv_inputs = (x.unflatten(0, by_rollout).flatten(3) for x in self.conv_inputs)
        return KVCache(
            tuple(x.transpose(1, 2) for x in conv_inputs),  # (B, C, T, hw)
            tuple(x.unflatten(0, by_rollout) for x in self.keys),  # (B, hw, heads, T, c)
            tuple(x.unflatten(0, by_rollout) for x in self.values),
            tuple(self.norm_sums),
            sums(velocity.float().flatten(2)),
        )


def sums(values: Tensor) -> Tensor:
    """Return sum and sum of squares over the last dimension: (..., 2)."""
    return torch.stack([values.sum(-1), values.square().sum(-1)], dim=-1)


def _split_taps(conv: nn.Conv3d, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Split a causal convolution y(t) = W0 x(t-2) + W1 x(t-1) + W2 x(t) + b.

    Args:
        conv: The convolution.
        inputs: (B, C, 2, hw), x(t-2) and x(t-1).

    Returns:
        W2 (C, C, 1, 1), and W0 x(t-2) + W1 x(t-1) + b (B, C, hw), which no denoising step changes.
    """
    older, newest = conv.weight[:, :, :-1, 0, 0], conv.weight[:, :, -1:, 0]
    # Both older frames become channels (B, 2 C, hw), so that one 1 x 1 convolution adds them up.
    known = F.conv1d(inputs.flatten(1, 2), older.flatten(1)[..., None], conv.bias)
    return newest.contiguous(), known


def _newest(frames: Tensor, count: int) -> Tensor:
    """Return the newest frames, which lie along the last dimension but one; zeros if fewer."""
    frames = frames[..., -count:, :]
    return F.pad(frames, (0, 0, count - frames.shape[-2], 0))
