"""Check that a step equals the baseline's; no speed is reported otherwise.

Rollouts of different age share a batch until the first frames of all have left the window. One of
them restarts on the way. The baseline gets the same history and noise each time.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.checks import APPROXIMATE
from v2w_gym.evaluation.checks.bench.baseline import naive_next
from v2w_gym.evaluation.checks.bench.models import random_frames, with_semantics, with_steps
from v2w_gym.world_models.state import FrameNoise, RolloutState, begin_state, join_states
from v2w_gym.world_models.vid2world.model import Vid2World

Row: TypeAlias = dict[str, Any]

TOLERANCE, SAMPLE_TOLERANCE = 1e-4, 1e-3
"""Largest error of a single forward and of a whole sample."""
AGES, RESTARTED = (1, 2, 3), 1
"""Number of initial frames of each rollout; index of the rollout that restarts."""
FORWARD_STEPS, SAMPLE_STEPS = (1, 2), 10
"""Denoising steps of single forwards and of whole samples. Pure noise holds no signal, so one DDIM
step gives the guided velocity, up to a factor. A second step adds the one at half the levels."""


class Moment(NamedTuple):
    """Rollouts before a step, their whole histories, and the step's actions (B, A) and noise."""

    state: RolloutState
    histories: list[RolloutState]
    actions: NDArray[np.float32]
    noise: FrameNoise


def check_exactness(model: Vid2World, names: list[str], *, quick: bool) -> Row:
    """Compare steps of every kind in `names`, keys of `SEMANTICS`, with the baseline in float32.

    `passed` means that every exact kind equals the baseline.
    """
    agreements = [check_agreement(with_semantics(model, n), n, quick=quick) for n in names]
    exact = [row for row in agreements if row["exact"]]
    return {
        "passed": all(row["passed"] for row in agreements),
        "max_relative_error": max((row["relative_error"] for row in exact), default=None),
        "tolerance": TOLERANCE,
        "max_sample_error": max((row["sample_error"] for row in exact), default=None),
        "sample_tolerance": SAMPLE_TOLERANCE,
        "steps": steps_compared(model.window),
        "agreements": agreements,
    }


def check_agreement(model: Vid2World, semantics: str, *, quick: bool) -> Row:
    """Compare single forwards of every step with the baseline's, and samples where it changes.

    An error is the largest max |difference| / max |baseline|. Approximations have no limit. With
    `quick`, forwards are compared only where something changes, and one sample is.
    """
    # First, one rollout's window is just full, and the others' have slid. Then, one rollout has
    # restarted. Last, all windows have slid for long.
    changes = (model.window - AGES[0] - 1, model.window + 1, steps_compared(model.window) - 1)
    *forwards, sampler = (with_steps(model, n) for n in (*FORWARD_STEPS, SAMPLE_STEPS))
    relative, sample = 0.0, 0.0
    for number, moment in rollout_moments(model, f"{semantics}, exactness"):
        if not quick or number in changes:
            relative = max(relative, *(_error(each, moment) for each in forwards))
        if number in (changes[1:2] if quick else changes):
            sample = max(sample, _error(sampler, moment))
    exact = semantics not in APPROXIMATE
    return {
        "semantics": semantics,
        "exact": exact,
        "relative_error": relative,
        "sample_error": sample,
        "passed": not exact or (relative <= TOLERANCE and sample <= SAMPLE_TOLERANCE),
    }


def steps_compared(window: int) -> int:
    """Return how many steps the rollouts take: the first frames of all leave the window."""
    return 2 * window + 3


def rollout_moments(model: Vid2World, label: str) -> Iterator[tuple[int, Moment]]:
    """Yield the number and the inputs of every step of rollouts in one batch."""
    seeds = list(range(len(AGES)))
    states, histories = map(list, zip(*map(_begin, [model] * len(AGES), AGES, seeds), strict=True))
    state, lead = join_states(states), with_steps(model, 1)
    moves = np.stack(list(model.robot.moves.values()))
    for number in tqdm(range(steps_compared(model.window)), label, unit="step", leave=False):
        if number == model.window + 1:
            seeds[RESTARTED] += len(seeds)
            states = [state.select([row]) for row in range(len(seeds))]
            states[RESTARTED], histories[RESTARTED] = _begin(model, AGES[0], seeds[RESTARTED])
            state = join_states(states)
        actions = moves[(number // 2 + np.arange(len(seeds))) % len(moves)]
        ages = tuple(int(history.lengths[0]) for history in histories)
        noise = FrameNoise(tuple(seeds), (0,) * len(seeds), ages)
        yield number, Moment(state, histories, actions, noise)
        state = lead.step(state, actions, noise)
        led_to = zip(state.latents[:, -1:], torch.from_numpy(actions[:, None]), strict=True)
        histories = [
            history.followed(latent, action.to(latent))
            for history, (latent, action) in zip(histories, led_to, strict=True)
        ]


def baseline_latents(model: Vid2World, moment: Moment) -> Tensor:
    """Return the baseline's latents, computed one rollout at a time.

    Rolling steps depend on the whole episode, through attention that reaches back one window;
    other steps depend on one window.
    """
    reach = model.window if model.cfg.sampler.history == "rolling" else None
    return torch.cat(
        [
            naive_next(model, history, moment.actions[[row]], moment.noise.select([row]), reach)
            for row, history in enumerate(moment.histories)
        ]
    )


def relative_distance(found: Tensor, expected: Tensor) -> float:
    """Return max |difference| / max |expected| of the worst row, a huge number if not finite."""
    rows = (found - expected).abs().flatten(1).amax(1) / expected.abs().flatten(1).amax(1)
    return float(rows.nan_to_num(nan=torch.inf).max().nan_to_num())


def _begin(model: Vid2World, age: int, seed: int) -> tuple[RolloutState, RolloutState]:
    """Begin one rollout with `age` random frames and moves; return its state and whole history."""
    moves = np.stack(list(model.robot.moves.values()))
    actions = moves[np.random.default_rng(seed).integers(len(moves), size=(1, age - 1))]
    frames = random_frames(model.robot, age, seed)[None]
    state = model.start(frames, actions, FrameNoise((seed,), (0,), (age - 1,)))
    known = state.latents[:, -age:]
    longest = steps_compared(model.window) + max(AGES)
    history = begin_state(known, torch.from_numpy(actions).to(known), longest)
    return state, replace(history, context=state.context)


def _error(model: Vid2World, moment: Moment) -> float:
    found = model.step(moment.state, moment.actions, moment.noise).latents[:, -1]
    return relative_distance(found, baseline_latents(model, moment))
