"""Is a step equal to the baseline's? No speed is reported unless it is.

Rollouts of different age share a batch, beyond the point where the first frames leave the window,
and one of them begins anew on the way. The baseline gets the same history and noise each time.
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
from v2w_gym.evaluation.checks.bench.models import (
    in_precision,
    random_frames,
    with_semantics,
    with_steps,
)
from v2w_gym.world_models.state import FrameNoise, RolloutState, begin_state, join_states
from v2w_gym.world_models.vid2world.model import Vid2World

Row: TypeAlias = dict[str, Any]

TOLERANCE, SAMPLE_TOLERANCE, ROUNDING_TOLERANCE = 1e-4, 1e-3, 1.5
"""Largest error of a single forward and of a whole sample, and of half precision over baseline."""
AGES, RESTARTED = (1, 2, 3), 1
"""Frames that the rollouts begin with; the rollout that begins anew."""
FORWARD_STEPS = (1, 2)
"""Denoising steps that show single forwards: at pure noise the signal is absent, so one DDIM step
gives the guided velocity itself, to a factor; the second step adds one at half the noise levels."""
SAMPLE_STEPS, QUICK_SAMPLE_STEPS = 10, 4
"""Denoising steps of whole samples."""


class Moment(NamedTuple):
    """Rollouts before a step, all they have been, and the step's actions (B, A) and noise."""

    state: RolloutState
    histories: list[RolloutState]
    actions: NDArray[np.float32]
    noise: FrameNoise


def check_exactness(
    model: Vid2World, names: list[str], precision: torch.dtype, *, every: bool
) -> Row:
    """Compare steps of every kind with the baseline, in float32 and in a `precision` below it.

    Args:
        model: In float32.
        names: What steps mean, keys of `SEMANTICS`; approximations are only measured.
        precision: What will be timed.
        every: See `check_agreement`.

    Returns:
        Whether all that should be equal is (`passed`), the largest errors, their tolerances, and
        a row for each kind.
    """
    exact = [name for name in names if name not in APPROXIMATE]
    agreements = [
        check_agreement(with_semantics(model, name), name, exact=name in exact, every=every)
        for name in names
    ]
    half = in_precision(model, precision)
    roundings = [
        check_rounding(with_semantics(half, name), with_semantics(model, name), name)
        for name in exact
        if precision != torch.float32
    ]
    found = [row for row in agreements if row["exact"]]
    return {
        "passed": all(row["passed"] for row in (*agreements, *roundings)),
        "max_relative_error": max((row["relative_error"] for row in found), default=None),
        "tolerance": TOLERANCE,
        "max_sample_error": max((row["sample_error"] for row in found), default=None),
        "sample_tolerance": SAMPLE_TOLERANCE,
        "steps": steps_compared(model.window),
        "agreements": agreements,
        "roundings": roundings,
    }


def check_agreement(model: Vid2World, semantics: str, *, exact: bool, every: bool) -> Row:
    """Compare steps of `model` with the baseline's.

    Args:
        model: In float32.
        semantics: What its steps mean.
        exact: Whether they should be equal.
        every: Compare every step, and a whole sample where something changes; otherwise, single
            forwards where something changes, and one whole sample.

    Returns:
        The largest max |difference| / max |baseline| of single forwards and of whole samples.
    """
    changes = _changes(model.window)
    forwards = [with_steps(model, steps) for steps in FORWARD_STEPS]
    sampler = with_steps(model, SAMPLE_STEPS if every else QUICK_SAMPLE_STEPS)
    relative, sample = 0.0, 0.0
    for number, moment in _moments(model, f"{semantics}, exactness"):
        if every or number in changes:
            relative = max(relative, *(_error(each, moment) for each in forwards))
        if number in (changes if every else changes[1:2]):
            sample = max(sample, _error(sampler, moment))
    return {
        "semantics": semantics,
        "exact": exact,
        "relative_error": relative,
        "sample_error": sample,
        "passed": not exact or (relative <= TOLERANCE and sample <= SAMPLE_TOLERANCE),
    }


def check_rounding(model: Vid2World, reference: Vid2World, semantics: str) -> Row:
    """Compare half-precision steps, and the baseline's, with the baseline in float32."""
    ours, naive = 0.0, 0.0
    for number, moment in _moments(model, f"{semantics}, half precision"):
        for steps in FORWARD_STEPS if number in _changes(model.window) else ():
            half, exact = with_steps(model, steps), _baseline(with_steps(reference, steps), moment)
            ours = max(ours, _distance(_latents(half, moment), exact))
            naive = max(naive, _distance(_baseline(half, moment), exact))
    passed = ours <= ROUNDING_TOLERANCE * naive
    return {"semantics": semantics, "error": ours, "naive_error": naive, "passed": passed}


def steps_compared(window: int) -> int:
    """Return how many steps the rollouts take: the first frames of all leave the window."""
    return 2 * window + 3


def _changes(window: int) -> tuple[int, int, int]:
    """Return the steps at which something is new.

    First one rollout's window is just full while the others' have slid; then one has begun anew;
    in the end all have been sliding for long.
    """
    return (window - AGES[0] - 1, window + 1, steps_compared(window) - 1)


def _moments(model: Vid2World, label: str) -> Iterator[tuple[int, Moment]]:
    """Yield every step, by number, of rollouts that `model` takes in one batch."""
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


def _begin(model: Vid2World, age: int, seed: int) -> tuple[RolloutState, RolloutState]:
    """Begin one rollout with `age` random frames and moves of the robot between them.

    Returns:
        Its state, and one with room for all its frames to come.
    """
    moves = np.stack(list(model.robot.moves.values()))
    actions = moves[np.random.default_rng(seed).integers(len(moves), size=(1, age - 1))]
    frames = random_frames(model.robot, age, seed)[None]
    state = model.start(frames, actions, FrameNoise((seed,), (0,), (age - 1,)))
    known = state.latents[:, -age:]
    longest = steps_compared(model.window) + max(AGES)
    history = begin_state(known, torch.from_numpy(actions).to(known), longest)
    return state, replace(history, context=state.context)


def _error(model: Vid2World, moment: Moment) -> float:
    return _distance(_latents(model, moment), _baseline(model, moment))


def _latents(model: Vid2World, moment: Moment) -> Tensor:
    """Return the newest latents (B, C, h, w) that the model gives."""
    return model.step(moment.state, moment.actions, moment.noise).latents[:, -1]


def _baseline(model: Vid2World, moment: Moment) -> Tensor:
    """Return what the baseline gives, one rollout at a time.

    Rolling steps depend on the whole episode, through attention that reaches back one window;
    other steps depend on one window.
    """
    reach = model.window if model.cfg.sampler.history == "rolling" else None
    actions = torch.from_numpy(moment.actions)
    return torch.cat(
        [
            naive_next(model, history, actions[[row]], moment.noise.select([row]), reach)
            for row, history in enumerate(moment.histories)
        ]
    )


def _distance(found: Tensor, expected: Tensor) -> float:
    """Return max |difference| / max |expected| of the worst row; what is not finite is far off."""
    rows = (found - expected).abs().flatten(1).amax(1) / expected.abs().flatten(1).amax(1)
    return float(rows.nan_to_num(nan=torch.inf).max().nan_to_num())
