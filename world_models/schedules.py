"""Learning rates: the recipe of a training, and the schedules that set the rate of each step."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

RATE_SETTINGS = ("learning_rate", "warmup", "decay", "steps")
"""Settings of a `Recipe` that a resumed run may change; see `Optimiser.changes`."""


@dataclass(frozen=True)
class Recipe:
    """The settings of a training with AdamW.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak rate.
        save_every: Steps between saves of the state.
        schedule: Schedule of the rate; a key of `SCHEDULES`.
        warmup: Steps of linear warm-up; 0 for none. `one_cycle` has its own.
        decay: Last share of the steps, over which the rate of `linear` falls to zero.
        weight_decay: Share of each weight, times the rate, that a step subtracts.
        epsilon: Constant that Adam adds to the root of the mean squared gradient.
        clip_norm: Largest norm of the gradient; None for no limit.
        nonfinite: What to do about NaN or infinite values in a gradient: stop with an error, or
            set them to zero and continue. A loss that is not finite is always an error.
        ema_decay: Decay of the averaged weights, which ramps up from zero; None for no average.
        section: Prefix of these settings' names in messages, such as `denoiser.`.
    """

    steps: int
    learning_rate: float
    save_every: int
    schedule: Literal["linear", "cosine", "constant", "one_cycle"]
    warmup: int = 0
    decay: float = 0.0
    weight_decay: float = 0.01
    epsilon: float = 1e-8
    clip_norm: float | None = 1.0
    nonfinite: Literal["error", "zero"] = "error"
    ema_decay: float | None = None
    section: str = ""


class Rates(NamedTuple):
    """The rates of one step: the learning rate, and the decay of Adam's mean gradient."""

    learning_rate: float
    beta1: float = 0.9


def linear(recipe: Recipe, step: int) -> Rates:
    """Warm up, hold the peak, then fall linearly to zero over the last `decay` of the steps."""
    left = (recipe.steps - step) / max(recipe.decay * recipe.steps, 1)
    return Rates(recipe.learning_rate * min(_warm(recipe, step), left, 1.0))


def cosine(recipe: Recipe, step: int) -> Rates:
    """Multiply a warm-up with half a cosine that falls from the peak to zero."""
    fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return Rates(recipe.learning_rate * _warm(recipe, step) * fall)


def constant(recipe: Recipe, step: int) -> Rates:
    """Warm up, then hold the peak."""
    return Rates(recipe.learning_rate * _warm(recipe, step))


def one_cycle(recipe: Recipe, step: int) -> Rates:
    """Rise to the peak over 30 % of the steps, then fall far below the first rate; mirror beta1.

    Source: Smith and Topin, "Super-Convergence", 2018, with the numbers of torch's `OneCycleLR`.
    """
    peak, start, top = recipe.learning_rate, recipe.learning_rate / 25, 0.3 * recipe.steps - 1
    if step <= top:
        share = step / top
        return Rates(_ease(start, peak, share), _ease(0.95, 0.85, share))
    share = (step - top) / (recipe.steps - 1 - top)
    return Rates(_ease(peak, start / 1e4, share), _ease(0.85, 0.95, share))


SCHEDULES = {"linear": linear, "cosine": cosine, "constant": constant, "one_cycle": one_cycle}


def rates(recipe: Recipe, step: int) -> Rates:
    """Return the rates of a step, counted from 0."""
    return SCHEDULES[recipe.schedule](recipe, step)


def _warm(recipe: Recipe, step: int) -> float:
    return min(1.0, (step + 1) / max(recipe.warmup, 1))


def _ease(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` along half a cosine."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
