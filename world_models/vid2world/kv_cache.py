"""The KV cache: features of earlier frames in temporal layers, which the next frame needs.

In a causal network a frame depends on itself and on earlier frames. So the keys and values of its
attention and the inputs of its convolutions are computed once, and the next frame passes alone.
Pooled norms make them depend on later frames too, so a cache is exact for per-frame norms only; see
`v2w_gym.world_models.vid2world.next_frame`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAPS = 3
"""Length of a temporal convolution's kernel in frames."""


class KVCache(NamedTuple):
    """Features of the L earlier frames of B rollouts, oldest first.

    The capacity L is fixed; zeros pad the front if a rollout has fewer frames.

    Attributes:
        conv_inputs: For each temporal convolution, (B, C, 2, hw): its input at the last two frames.
        keys: For each temporal attention, (B, hw, heads, L, c).
        values: Like `keys`.
        norm_sums: For each pooled norm, (B, groups, 2): sum and sum of squares over all L frames.
            In float64, because large sums are subtracted later. Empty for per-frame norms.
        velocity_sums: (B, L, 2), float32: sum and sum of squares of each frame's velocity, for the
            guidance rescale.
    """

    conv_inputs: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    norm_sums: tuple[Tensor, ...]
    velocity_sums: Tensor

    @property
    def capacity(self) -> int:
        """The capacity in frames (L)."""
        return self.velocity_sums.shape[1]

    def padded(self, capacity: int) -> "KVCache":
        """Return the cache at a larger capacity, padded with zeros in front."""
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

        Attention has no positional encoding, so cached keys stay valid when they move by a place.
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
        """Compute the parts that all denoising steps of the next frame share.

        Args:
            lengths: (B,) on the CPU, the number of frames so far; at most L of them are cached.
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
    """A cache that is prepared for the denoising steps of one frame of B rollouts.

    Attributes:
        lengths: (B,) float32, the number of cached frames.
        mask: (B, 1, 1, 1, L + 1), float32, to add to attention scores: minus infinity for padding,
            else 0.
        taps: For each temporal convolution, the newest tap (C, C, 1, 1), and the sum of the older
            taps' outputs and the bias (B, C, hw).
        keys: See `KVCache`.
        values: See `KVCache`.
        norm_sums: See `KVCache`.
        velocity_sums: (B, 2), summed over all cached frames.
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
    """Collects the cache entries of a pass over T frames of B rollouts, layer by layer."""

    rollouts: int
    conv_inputs: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    norm_sums: list[Tensor] = field(default_factory=list)

    def cache(self, velocity: Tensor) -> KVCache:
        """Return a cache of T frames, given their predicted velocity (B, T, C, h, w)."""
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
        W2 (C, C, 1, 1), and W0 x(t-2) + W1 x(t-1) + b (B, C, hw), which all denoising steps share.
    """
    older, newest = conv.weight[:, :, :-1, 0, 0], conv.weight[:, :, -1:, 0]
    # Fold both older frames into channels (B, 2 C, hw); then one 1 x 1 convolution adds them up.
    known = F.conv1d(inputs.flatten(1, 2), older.flatten(1)[..., None], conv.bias)
    return newest.contiguous(), known


def _newest(frames: Tensor, count: int) -> Tensor:
    """Return the newest `count` frames along the second to last dimension, padded with zeros."""
    frames = frames[..., -count:, :]
    return F.pad(frames, (0, 0, count - frames.shape[-2], 0))
