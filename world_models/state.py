"""The state of rollouts between steps, and the keyed noise of their frames.

Shape legend, used everywhere: B rollouts, T frames, H x W pixels, C latent channels, h x w latent
pixels, A action values.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Nested: TypeAlias = tuple[Any, ...]
"""A tuple of tensors, or of such tuples; named tuples keep their names."""


@dataclass(frozen=True)
class RolloutState:
    """The state of B rollouts of one world model between steps.

    A state is immutable, so callers may keep it, branch from it, split it and join it. Its tensors
    have the same shapes at every step; `lengths` holds the age of each rollout. Only the model that
    made a state, with the same sampler, can continue it.

    Attributes:
        latents: (B, T, C, h, w) oldest first, where T is the model's window; zeros before a
            rollout's first frame.
        actions: (B, T, A): `actions[:, t]` led to frame t; NaN for an unknown action, such as
            before the first frame.
        lengths: (B,) int64 on the CPU, the number of frames so far, at most T.
        condition: (B, C, h, w) the latent of the conditioning frame.
        context: Keys and values of that frame in cross-attention, tensors (B, ...); empty for a
            model without cross-attention.
        cache: The KV cache of earlier frames, tensors (B, ...); empty for a model that recomputes
            the full window at each step.
    """

    latents: Tensor
    actions: Tensor
    lengths: Tensor
    condition: Tensor
    context: Nested = ()
    cache: Nested = ()

    def __len__(self) -> int:
        """Return the number of rollouts (B)."""
        return len(self.latents)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors())

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in a fixed order."""
        return list(leaves(_parts(self)))

    def with_tensors(self, tensors: Iterable[Tensor]) -> "RolloutState":
        """Return a state of the same structure with other tensors, in the order of `tensors()`."""
        return RolloutState(*refill(_parts(self), iter(tensors)))

    def select(self, rows: Sequence[int]) -> "RolloutState":
        """Return the rollouts at `rows`, in that order."""
        if list(rows) == list(range(len(self))):
            return self
        return _map(lambda tensor: tensor[list(rows)], self)

    def followed(self, latent: Tensor, action: Tensor) -> "RolloutState":
        """Return the state after one more frame (B, C, h, w), which `action` (B, A) led to."""
        return replace(
            self,
            latents=torch.cat([self.latents[:, 1:], latent[:, None]], dim=1),
            actions=torch.cat([self.actions[:, 1:], action[:, None]], dim=1),
            lengths=(self.lengths + 1).clamp(max=self.latents.shape[1]),
        )


def begin_state(latents: Tensor, actions: Tensor, window: int) -> RolloutState:
    """Return the state after recorded frames, conditioned on the first of them.

    Args:
        latents: (B, T, C, h, w) oldest first.
        actions: (B, T - 1, A) taken between them.
        window: Capacity of the state in frames, at least T.
    """
    missing = window - latents.shape[1]
    return RolloutState(
        latents=F.pad(latents, (0, 0, 0, 0, 0, 0, missing, 0)),
        actions=F.pad(actions, (0, 0, missing + 1, 0), value=torch.nan),
        lengths=torch.full((len(latents),), latents.shape[1]),
        condition=latents[:, 0],
    )


def join_states(states: Sequence[RolloutState]) -> RolloutState:
    """Join the rollouts of one model into one state, in the given order."""
    if len(states) == 1:
        return states[0]
    return _map(lambda *tensors: torch.cat(tensors), *states)


def step_in_groups(
    labels: Sequence[Hashable], step: Callable[[list[int]], RolloutState]
) -> RolloutState:
    """Apply `step` to the rows of each label in turn, and join the results in the rows' order."""
    groups = rows_by_label(labels)
    order = [row for rows in groups for row in rows]
    joined = join_states([step(rows) for rows in groups])
    return joined.select([order.index(row) for row in range(len(order))])


def rows_by_label(labels: Sequence[Hashable]) -> list[list[int]]:
    """Return the rows that share a label, one list per label, in the order of appearance."""
    groups: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        groups.setdefault(label, []).append(row)
    return list(groups.values())


@dataclass(frozen=True)
class FrameNoise:
    """Counter-based (keyed) noise of one frame of B rollouts.

    Each value depends on the rollout's own (seed, episode, frame, draw) alone. So a rollout is the
    same in any batch, order or shard, and after a resume.

    Attributes:
        seeds: (B,) seed of each rollout, in [0, 2**64).
        episodes: (B,) episode number of each rollout, in [0, 2**64).
        frames: (B,) index of the frame to sample.
    """

    seeds: tuple[int, ...]
    episodes: tuple[int, ...]
    frames: tuple[int, ...]

    def select(self, rows: Sequence[int]) -> "FrameNoise":
        """Return the noise of the rollouts at `rows`."""
        kinds = (self.seeds, self.episodes, self.frames)
        return FrameNoise(*(tuple(values[row] for row in rows) for values in kinds))

    def earlier(self, frames: int) -> "FrameNoise":
        """Return the noise of the frame that is `frames` frames earlier."""
        return FrameNoise(self.seeds, self.episodes, tuple(f - frames for f in self.frames))

    def normal(self, draw: int, shape: tuple[int, ...]) -> Tensor:
        """Return standard normal numbers (B, *shape), float32, the same at every call."""
        # Philox turns (key, counter) into numbers directly; it has no state to advance.
        rows = [
            np.random.Generator(
                np.random.Philox(
                    key=np.array([seed, episode], np.uint64),
                    counter=np.array([0, 0, draw, frame], np.uint64),
                )
            ).standard_normal(shape, dtype=np.float32)
            for seed, episode, frame in zip(self.seeds, self.episodes, self.frames, strict=True)
        ]
        return torch.from_numpy(np.stack(rows))


def _map(function: Callable[..., Tensor], *states: RolloutState) -> RolloutState:
    """Apply `function` to corresponding tensors of states of one structure."""
    return RolloutState(*map_nested(function, *(_parts(state) for state in states)))


def _parts(state: RolloutState) -> Nested:
    return tuple(getattr(state, f.name) for f in fields(state))


def leaves(nested: Nested) -> Iterator[Tensor]:
    """Yield the tensors of a nested tuple, from left to right."""
    for part in nested:
        if isinstance(part, Tensor):
            yield part
        else:
            yield from leaves(part)


def map_nested(function: Callable[..., Tensor], *nested: Any) -> Any:
    """Apply `function` to corresponding tensors of nested tuples of one structure."""
    if isinstance(nested[0], Tensor):
        return function(*nested)
    make = getattr(nested[0], "_make", tuple)  # a named tuple keeps its type
    return make(map_nested(function, *parts) for parts in zip(*nested, strict=True))


def refill(nested: Nested, tensors: Iterator[Tensor]) -> Any:
    """Return a nested tuple of the same structure, filled with `tensors` in order."""
    return map_nested(lambda _: next(tensors), nested)
