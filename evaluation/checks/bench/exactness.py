"""Is a step equal to the naive one? Nothing is said about speed unless it is.

Rollouts of different age share a batch, beyond the point where the first frames are forgotten, and
one of them begins anew on the way. The naive step is given the same history and noise each time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.model import SamplerConfig
from v2w_gym.evaluation.checks.bench.naive import History, draw_next
from v2w_gym.evaluation.checks.bench.probe import PROBE, probing
from v2w_gym.world_models.base import FrameNoise, RolloutState, join_states
from v2w_gym.world_models.vid2world.model import Vid2World

TOLERANCE, SAMPLE_TOLERANCE, ROUNDING_TOLERANCE = 1e-4, 1e-3, 1.5
"""Largest error of a single forward and of a whole sample, and of half precision over naive."""
AGES = (1, 2, 3)
"""Frames that the rollouts begin with."""
RESTARTED = 1
"""The rollout that begins anew."""
PROBED, SAMPLED, SAMPLED_ONCE, ADVANCED = (1, 10), 10, 4, 1
"""Steps whose lowest levels the network is asked at; steps of samples that are compared, and of the
only one where not every step is; steps of those that only lead on to the next comparison."""


@dataclass(frozen=True)
class Agreement:
    """How far steps are from naive ones: max |difference| / max |naive|, the worst that was seen.

    Attributes:
        semantics: What a step means.
        exact: Whether it should be equal; an approximation is only measured.
        relative_error: Of a single forward: the guided velocity of the newest frame, at the first
            noise level and at later ones.
        sample_error: Of the latent after a whole sample.
        passed: Whether both are within tolerance, or need not be.
    """

    semantics: str
    exact: bool
    relative_error: float
    sample_error: float
    passed: bool


@dataclass(frozen=True)
class Rounding:
    """How far steps in half precision are from naive ones in single precision.

    Attributes:
        semantics: What a step means.
        error: Of the step.
        naive_error: Of the naive step in the same half precision.
        passed: Whether the first is not much larger than the second.
    """

    semantics: str
    error: float
    naive_error: float
    passed: bool


@dataclass(frozen=True)
class Moment:
    """Rollouts before a step, what they have been, and the step's actions (B, A) and noise."""

    state: RolloutState
    histories: Sequence[History]
    actions: NDArray[np.float32]
    noise: FrameNoise


def check_agreement(model: Vid2World, semantics: str, *, exact: bool, every: bool) -> Agreement:
    """Hold steps of `model` against naive ones.

    Args:
        model: In float32.
        semantics: What its steps mean.
        exact: Whether they should be equal.
        every: Compare every step, and a whole sample where something changes; otherwise, single
            forwards where something changes, and one whole sample.
    """
    turning = _turning_points(model.window)
    probed = range(steps_compared(model.window)) if every else turning
    sampled = turning if every else turning[1:2]
    sampler = _sampler(model, "ddim", SAMPLED if every else SAMPLED_ONCE)
    relative, sample = 0.0, 0.0
    with probing():
        for number, moment in _moments(model, f"{semantics} against naive"):
            if number in probed:
                relative = max(relative, *(_error(model, s, moment) for s in _probes(model)))
            if number in sampled:
                sample = max(sample, _error(model, sampler, moment))
    passed = not exact or (relative <= TOLERANCE and sample <= SAMPLE_TOLERANCE)
    return Agreement(semantics, exact, relative, sample, passed)


def check_rounding(model: Vid2World, reference: Vid2World, semantics: str) -> Rounding:
    """Hold half-precision steps of `model` against naive ones of the same weights in float32."""
    ours, naive = 0.0, 0.0
    with probing():
        for number, moment in _moments(model, f"{semantics} in half precision"):
            if number not in _turning_points(model.window):
                continue
            for sampler in _probes(model):
                exact = _naive(reference, sampler, moment)
                ours = max(ours, _distance(_ours(model, sampler, moment), exact))
                naive = max(naive, _distance(_naive(model, sampler, moment), exact))
    return Rounding(semantics, ours, naive, ours <= ROUNDING_TOLERANCE * naive)


def steps_compared(window: int) -> int:
    """Return how many steps the rollouts take: everybody forgets its first frames."""
    return 2 * window + 3


def _turning_points(window: int) -> tuple[int, int, int]:
    """Return the steps at which something is new.

    First one rollout's window is just full while the others' have slid; then one has begun anew;
    in the end all have been sliding for long.
    """
    return (window - AGES[0] - 1, window + 1, steps_compared(window) - 1)


def _moments(model: Vid2World, label: str) -> Iterator[tuple[int, Moment]]:
    """Yield every step, by number, of rollouts that `model` takes in one batch."""
    seeds = list(range(len(AGES)))
    begun = [_begin(model, age, seed) for age, seed in zip(AGES, seeds, strict=True)]
    state = join_states([rollout for rollout, _ in begun])
    histories = [history for _, history in begun]
    lead = model.with_sampler(_sampler(model, "ddim", ADVANCED))
    moves = torch.from_numpy(np.stack(list(model.robot.moves.values())))
    for number in tqdm(range(steps_compared(model.window)), label, unit="step", leave=False):
        if number == model.window + 1:
            seeds[RESTARTED] += len(seeds)
            fresh, histories[RESTARTED] = _begin(model, AGES[0], seeds[RESTARTED])
            rows = [state.select([row]) for row in range(len(seeds))]
            rows[RESTARTED] = fresh
            state = join_states(rows)
        taken = moves[(number // 2 + torch.arange(len(seeds))) % len(moves)]
        histories = [h.told(action) for h, action in zip(histories, taken[:, None], strict=True)]
        ages = tuple(history.latents.shape[1] for history in histories)
        noise = FrameNoise(tuple(seeds), (0,) * len(seeds), ages)
        yield number, Moment(state, histories, taken.numpy(), noise)
        state = lead.step(state, taken.numpy(), noise)
        histories = [
            h.followed(latent) for h, latent in zip(histories, state.latents[:, -1:], strict=True)
        ]


def _begin(model: Vid2World, age: int, seed: int) -> tuple[RolloutState, History]:
    """Begin one rollout with `age` random pictures and moves of the robot between them."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 256, (1, age, *model.robot.frame_size, 3), np.uint8)
    moves = np.stack(list(model.robot.moves.values()))
    actions = moves[rng.integers(len(moves), size=(1, age - 1))]
    state = model.start(pictures, actions, FrameNoise((seed,), (0,), (age - 1,)))
    seen = state.latents[:, -age:], state.actions[:, -age:]
    return state, History(*seen, state.condition, state.context)


def _probes(model: Vid2World) -> list[SamplerConfig]:
    """Return samplers that ask for velocities, at the first noise level and at later ones."""
    return [_sampler(model, PROBE, steps) for steps in PROBED]


def _sampler(model: Vid2World, solver: str, steps: int) -> SamplerConfig:
    return replace(model.cfg.sampler, solver=solver, steps=steps)


def _error(model: Vid2World, sampler: SamplerConfig, moment: Moment) -> float:
    return _distance(_ours(model, sampler, moment), _naive(model, sampler, moment))


def _ours(model: Vid2World, sampler: SamplerConfig, moment: Moment) -> Tensor:
    """Return what the sampler gives (B, C, h, w), from what the model remembers."""
    stepped = model.with_sampler(sampler).step(moment.state, moment.actions, moment.noise)
    return stepped.latents[:, -1]


def _naive(model: Vid2World, sampler: SamplerConfig, moment: Moment) -> Tensor:
    """Return what the sampler gives by definition, one rollout at a time.

    Rolling steps see the whole episode, through attention that reaches back one window; other
    steps see one window.
    """
    rolling = sampler.history == "rolling"
    seen = [h if rolling else h.newest(model.window - 1) for h in moment.histories]
    plain, reach = model.with_sampler(sampler), model.window if rolling else None
    return torch.cat(
        [
            draw_next(plain, history, moment.noise.select([row]), reach)
            for row, history in enumerate(seen)
        ]
    )


def _distance(found: Tensor, expected: Tensor) -> float:
    """Return max |difference| / max |expected| of the worst row; what is not finite is far off."""
    rows = (found - expected).abs().flatten(1).amax(1) / expected.abs().flatten(1).amax(1)
    return float(rows.nan_to_num(nan=torch.inf).max().nan_to_num())
