"""What the temporal layers of the network see of other frames.

A temporal layer asks its `Timeline` and does not know how many frames pass at once: a whole
`Window`; a window that is noted down layer by layer (`Recording`); or the `Newest` frame alone,
after frames that are in `Memory`. With norms per frame all three agree to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.world_models.vid2world.heads import attend, beyond

TAPS = 3
"""Frames a temporal convolution sees."""


class Timeline(Protocol):
    """How temporal layers reach other frames."""

    @property
    def frames(self) -> int:
        """Frames of a rollout that pass (T)."""
        ...

    def pool(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """Normalise frames (N, C, h, w) with statistics that all frames share."""
        ...

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """Convolve frames (N, C, h, w) along time; the last `after` taps lie in the future."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """Let each latent pixel read itself in other frames; all are (N hw, heads, frames, c)."""
        ...


@dataclass(frozen=True)
class Window:
    """All frames of a window pass at once.

    Attributes:
        frames: Their number (T).
        reach: Frames that causal attention reads, its own included; None for all before it.
    """

    frames: int
    reach: int | None = None

    def pool(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See `Timeline.pool`."""
        pooled: Tensor = norm(self._volume(x))
        return pooled.transpose(1, 2).flatten(0, 1)  # (BT, C, h, w)

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """See `Timeline.convolve`; frames outside the window are zeros."""
        padded = F.pad(self._volume(x), (0, 0, 0, 0, TAPS - 1 - after, after))
        convolved: Tensor = conv(padded)
        return convolved.transpose(1, 2).flatten(0, 1)  # (BT, C, h, w)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """See `Timeline.attend`."""
        hidden = beyond(self.frames, self.reach, query.device) if causal else None
        return attend(query, key, value, hidden)

    def _volume(self, x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # (B, C, T, h, w)


class Memory(NamedTuple):
    """What a frame asks of the L frames before it, oldest first; zeros where there was none.

    Attributes:
        inputs: Of each temporal convolution, (B, C, 2, hw): what went in at the last two frames.
        keys: Of each temporal attention, (B, hw, heads, L, c).
        values: As the keys.
        moments: Of each pooled norm, (B, groups, 2), float64, for large sums are subtracted: sum
            and sum of squares over the history; nothing where norms are per frame.
        velocities: One tensor (B, L, 2), float32: sum and sum of squares of each frame's velocity.
    """

    inputs: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    moments: tuple[Tensor, ...]
    velocities: tuple[Tensor]

    def fitted(self, room: int) -> "Memory":
        """Return the memory with room for `room` frames, the newest of those that are there."""
        return Memory(
            tuple(_newest(x, TAPS - 1) for x in self.inputs),
            tuple(_newest(x, room) for x in self.keys),
            tuple(_newest(x, room) for x in self.values),
            self.moments,
            (_newest(self.velocities[0], room),),
        )

    def extended(self, frame: "Memory") -> "Memory":
        """Return the memory with one more frame in the place of the oldest; norms per frame."""

        def follow(known: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensor, ...]:
            pairs = zip(known, new, strict=True)
            return tuple(torch.cat([k[..., 1:, :], n], dim=-2) for k, n in pairs)

        return Memory(
            follow(self.inputs, frame.inputs),
            follow(self.keys, frame.keys),
            follow(self.values, frame.values),
            (),
            (follow(self.velocities, frame.velocities)[0],),
        )


@dataclass
class Notes:
    """What the temporal layers of one pass over T frames of B rollouts leave behind, in order."""

    rollouts: int
    inputs: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    moments: list[Tensor] = field(default_factory=list)

    def memory(self, velocity: Tensor) -> Memory:
        """Return the memory of T frames, given the velocity (B, T, C, h, w) that came out."""
        by_rollout = (self.rollouts, -1)
        inputs = (x.unflatten(0, by_rollout).flatten(3).transpose(1, 2) for x in self.inputs)
        return Memory(
            tuple(inputs),
            tuple(heads.unflatten(0, by_rollout) for heads in self.keys),
            tuple(heads.unflatten(0, by_rollout) for heads in self.values),
            tuple(self.moments),
            (moments(velocity.float().flatten(2)),),
        )


@dataclass
class Recording:
    """A window that is noted down, layer by layer, for the frame that comes after it."""

    window: Window
    notes: Notes

    @property
    def frames(self) -> int:
        """See `Timeline.frames`."""
        return self.window.frames

    def pool(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See `Timeline.pool`."""
        frames = x.reshape(self.notes.rollouts, self.frames, norm.num_groups, -1)
        groups = frames.transpose(1, 2).flatten(2)
        self.notes.moments.append(moments(groups.double()))  # (B, groups, 2)
        return self.window.pool(norm, x)

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """See `Timeline.convolve`."""
        self.notes.inputs.append(x)
        return self.window.convolve(conv, x, after=after)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """See `Timeline.attend`."""
        self.notes.keys.append(key)
        self.notes.values.append(value)
        return self.window.attend(query, key, value, causal=causal)


class Past(NamedTuple):
    """The memory of B rollouts, made ready for every pass of the frame that follows.

    Attributes:
        known: (B,) float32, how many frames are in the memory.
        hidden: (B, 1, 1, 1, L + 1), float32, what is added to the scores of remembered frames and
            of the newest: minus infinity where there is no frame, else 0.
        taps: Of each temporal convolution, its newest tap (C, C, 1, 1) and what the two older ones
            and the bias come to (B, C, hw).
        keys: See `Memory`.
        values: See `Memory`.
        moments: See `Memory`.
        velocity: (B, 2), sum and sum of squares of the velocities of all remembered frames.
    """

    known: Tensor
    hidden: Tensor
    taps: tuple[tuple[Tensor, Tensor], ...]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    moments: tuple[Tensor, ...]
    velocity: Tensor


def prepare(memory: Memory, lengths: Tensor, convs: Sequence[nn.Conv3d]) -> Past:
    """Do once what every pass of the next frame would do again.

    Args:
        memory: Of B rollouts.
        lengths: (B,) on the CPU, how many frames there are; L of them are in the memory at most.
        convs: The network's temporal convolutions, in order.
    """
    room = memory.velocities[0].shape[1]
    lengths = lengths.clamp(max=room)
    missing = torch.arange(room + 1, device=lengths.device) < (room - lengths)[:, None]
    hidden = torch.zeros_like(missing, dtype=torch.float32).masked_fill(missing, float("-inf"))
    return Past(
        lengths.to(memory.velocities[0]),
        hidden[:, None, None, None].to(memory.velocities[0]),
        tuple(_tap(conv, past) for conv, past in zip(convs, memory.inputs, strict=True)),
        memory.keys,
        memory.values,
        memory.moments,
        memory.velocities[0].sum(1),
    )


def _tap(conv: nn.Conv3d, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the newest tap (C, C, 1, 1), and what the older taps make of inputs (B, C, 2, hw)."""
    older, newest = conv.weight[:, :, :-1, 0, 0], conv.weight[:, :, -1:, 0]
    known = F.conv1d(inputs.flatten(1, 2), older.flatten(1)[..., None], conv.bias)
    return newest.contiguous(), known  # (B, C, hw)


class Newest:
    """One frame of each rollout passes alone, in G branches that share one past.

    A branch differs in what it is told of the newest frame; rows are branch by branch (G B, ...).
    """

    frames = 1

    def __init__(self, past: Past) -> None:
        """Begin a pass."""
        self.notes = Notes(len(past.known))
        self._past = past
        self._taps = iter(past.taps)
        self._heads = iter(zip(past.keys, past.values, strict=True))
        self._moments = iter(past.moments)

    def pool(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See `Timeline.pool`; the history's statistics are those it had without this frame."""
        groups = x.unflatten(0, (-1, self.notes.rollouts)).unflatten(2, (norm.num_groups, -1))
        groups = groups.flatten(3).float()  # (G, B, groups, C/groups h w)
        total = moments(groups.double()) + next(self._moments)
        count = (groups.shape[-1] * (self._past.known + 1))[:, None]  # (B, 1)
        mean = total[..., 0] / count
        scale = (total[..., 1] / count - mean**2 + norm.eps).rsqrt().float()
        mean = mean.float()
        normed = (groups - mean[..., None]) * scale[..., None]
        return normed.reshape(x.shape).to(x) * norm.weight[:, None, None] + norm.bias[:, None, None]

    def convolve(self, conv: nn.Conv3d, x: Tensor, *, after: int) -> Tensor:
        """See `Timeline.convolve`; of three taps only the newest is left to do."""
        self.notes.inputs.append(x)
        tap, older = next(self._taps)
        newest = F.conv2d(x, tap).unflatten(0, (-1, self.notes.rollouts))  # (G, B, C, h, w)
        return (newest + older.unflatten(2, x.shape[2:])).flatten(0, 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, causal: bool) -> Tensor:
        """See `Timeline.attend`; the branches' queries share one reading of the history."""
        self.notes.keys.append(key)
        self.notes.values.append(value)
        known_keys, known_values = next(self._heads)
        by_branch = (-1, *known_keys.shape[:2])
        query, key, value = (  # (B, hw, heads, G, c)
            heads[..., 0, :].unflatten(0, by_branch).movedim(0, 3) for heads in (query, key, value)
        )
        own = (query * key).sum(-1, keepdim=True)
        scores = torch.cat([query @ known_keys.mT, own], dim=-1) * query.shape[-1] ** -0.5
        weights = (scores + self._past.hidden.to(scores)).softmax(dim=-1)
        read = weights[..., :-1] @ known_values + weights[..., -1:] * value
        return read.movedim(3, 0).flatten(0, 2)[..., None, :]  # (G B hw, heads, 1, c)


def moments(values: Tensor) -> Tensor:
    """Return sum and sum of squares over the last dimension: (..., 2)."""
    return torch.stack([values.sum(-1), values.square().sum(-1)], dim=-1)


def _newest(frames: Tensor, capacity: int) -> Tensor:
    """Return the newest frames, which lie along the last dimension but one; zeros if fewer."""
    frames = frames[..., -capacity:, :]
    return F.pad(frames, (0, 0, capacity - frames.shape[-2], 0))
