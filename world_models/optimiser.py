"""One optimiser step for every training: its rate, averaged weights, a log, and a state to resume.

A training makes an `Optimiser` and loops over its steps:

    optimiser = Optimiser(network, recipe, folder / "fit.state", folder / "metrics.jsonl")
    for step in optimiser.remaining_steps():
        optimiser.step(loss_of(network, step))
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from v2w_gym.world_models.checkpoint import is_finite
from v2w_gym.world_models.files import whole_lines, write_text
from v2w_gym.world_models.saved_state import reading_state, save_state

log = logging.getLogger(__name__)

RATE_SETTINGS = ("learning_rate", "warmup", "decay", "steps")
"""Settings of a `Recipe` that a run may go on with differently; see `Optimiser.changes`."""


@dataclass(frozen=True)
class Recipe:
    """How a network follows gradients with AdamW.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak rate.
        save_every: Steps between saves of the state.
        schedule: What the rate does from step to step; a key of `SCHEDULES`.
        warmup: Steps of linear warm-up; 0 for none. `one_cycle` has its own.
        decay: Share of the steps, at the end, over which `linear` lets the rate fall to zero.
        weight_decay: Share of a weight, times the rate, that is taken off in each step.
        epsilon: What Adam adds to the root of the squared gradients.
        clip_norm: Largest norm of the gradient; None for no limit.
        nonfinite: What happens when values of the gradient are NaN or infinite: error, or zero,
            which sets those values to zero and goes on. A loss that is not finite is an error.
        ema_decay: Decay of the averaged weights, which ramps up from zero; None for no average.
        section: What stands before the names of these settings in messages, as in `denoiser.`.
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
    """What a schedule sets in a step: the learning rate, and the decay of Adam's mean gradient."""

    learning_rate: float
    beta1: float = 0.9


def linear(recipe: Recipe, step: int) -> Rates:
    """Warm up, hold the peak, then fall to zero over the last `decay` of the steps."""
    left = (recipe.steps - step) / max(recipe.decay * recipe.steps, 1)
    return Rates(recipe.learning_rate * min(_warm(recipe, step), left, 1.0))


def cosine(recipe: Recipe, step: int) -> Rates:
    """Warm up, while half a cosine falls from the peak to zero."""
    fall = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    return Rates(recipe.learning_rate * _warm(recipe, step) * fall)


def constant(recipe: Recipe, step: int) -> Rates:
    """Warm up, then hold the peak."""
    return Rates(recipe.learning_rate * _warm(recipe, step))


def one_cycle(recipe: Recipe, step: int) -> Rates:
    """Rise to the peak over 30 % of the steps, then fall far below the start; beta1 mirrors it.

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
    """Return what is set in a step, counted from 0."""
    return SCHEDULES[recipe.schedule](recipe, step)


def _warm(recipe: Recipe, step: int) -> float:
    return min(1.0, (step + 1) / max(recipe.warmup, 1))


def _ease(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` along half a cosine."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


class Optimiser:
    """Takes the steps of a training, logs them, and keeps on disk what a resume needs.

    The state on disk is written when its weights have proved good for one more gradient: weights
    that a step has ruined show it in the next one, and a run could not go on from there.

    Attributes:
        steps_done: Steps taken, those before an interruption included.
        average: The averaged weights by name; empty if the recipe keeps none.
        changes: Settings that a resumed run had differently, so that its weights are others.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        state: Path,
        metrics: Path,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Start at step 0, or where the run was interrupted that left `state`.

        Args:
            network: What is trained, on the device where it stays.
            recipe: How.
            state: Where the state is kept.
            metrics: The log, a line of JSON per step. A resumed run takes the steps after `state`
                again, so their lines are dropped.
            rng: What all steps draw from, one after another; its place is part of the state. None
                if each step makes its own from (seed, step), which is simpler.

        Raises:
            ValueError: `state` is damaged, belongs to another network, or has taken more steps.
        """
        self._network = network
        self._recipe = recipe
        self._path = state
        self._metrics = metrics
        self._rng = rng
        self._adam = torch.optim.AdamW(
            network.parameters(),
            lr=recipe.learning_rate,
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
        )
        averaged = network.state_dict() if recipe.ema_decay is not None else {}
        self.average = {name: value.detach().clone() for name, value in averaged.items()}
        self.changes: list[str] = []
        self.steps_done = self._saved = 0
        self._sound = True
        if state.exists():
            self._restore()
        self._note_what_steps_change_early()
        _keep_steps(metrics, self.steps_done)

    def remaining_steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be taken, with a progress bar.

        A step is done when the loop comes back for the next one. The state is saved every
        `save_every` steps, at the end, and when the loop is interrupted between two updates.
        """
        steps = range(self.steps_done, self._recipe.steps)
        with tqdm(
            total=self._recipe.steps, initial=self.steps_done, desc=self._path.stem, unit="step"
        ) as self._bar:
            try:
                for step in steps:
                    yield step
                    self.steps_done += 1
                    self._note_what_steps_change_early()
                    self._sound = True
                    self._bar.update()
            finally:
                if self._sound:
                    self._save()

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of `loss` once.

        Raises:
            FloatingPointError: The loss or its gradient is not finite; no weight has changed.
        """
        self._adam.zero_grad(set_to_none=True)
        try:
            norm, zeroed = self._finite_gradient(loss)
            if self.steps_done % self._recipe.save_every == 0:
                self._save()
        except (FloatingPointError, OSError):
            self._sound = False  # so that the end of the loop does not try to save once more
            raise
        self._sound = False  # from here on weights and step number disagree
        rate = rates(self._recipe, self.steps_done)
        for group in self._adam.param_groups:
            group.update(lr=rate.learning_rate, betas=(rate.beta1, group["betas"][1]))
        if self._recipe.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._network.parameters(), self._recipe.clip_norm, norm)
        self._adam.step()
        self._update_average()
        found = {"loss": loss.item(), "learning_rate": rate.learning_rate}
        self.note(**found, gradient_norm=norm.item(), gradients_zeroed=zeroed)
        self._bar.set_postfix(loss=f"{found['loss']:.4f}", refresh=False)

    def note(self, **values: Any) -> None:
        """Add a line of JSON values to the log of the step that is being taken."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.steps_done + 1, **values}) + "\n")

    def _finite_gradient(self, loss: Tensor) -> tuple[Tensor, int]:
        """Compute the gradient; return its norm, and how many of its values were set to zero."""
        self._check_finite("loss", loss)
        loss.backward()
        gradients = [w.grad for w in self._network.parameters() if w.grad is not None]
        norm, zeroed = nn.utils.get_total_norm(gradients), 0
        if self._recipe.nonfinite == "zero" and not torch.isfinite(norm):
            zeroed = zero_nonfinite(gradients)
            norm = nn.utils.get_total_norm(gradients)
        self._check_finite("gradient", norm)  # finite values may have a norm that is not
        return norm, zeroed

    def _check_finite(self, what: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            found = f"one of norm {value.item()}" if what == "gradient" else value.item()
            raise FloatingPointError(
                f"expected a finite {what} at step {self.steps_done}, found {found}; lower "
                f"{self._recipe.section}learning_rate and run the same command again: it goes on "
                f"from step {self._saved}"
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the weights: average = d average + (1 - d) weight.

        After n steps d is at most (1 + n) / (10 + n), so that the random start is soon forgotten.
        """
        if self._recipe.ema_decay is None:
            return
        taken = self.steps_done + 1
        decay = min(self._recipe.ema_decay, (1 + taken) / (10 + taken))
        for name, value in self._network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:  # a batch norm counts its batches
                self.average[name].copy_(value)

    def _save(self) -> None:
        """Write the state, if it is newer than the one on disk."""
        if self.steps_done == self._saved:
            return
        network = self._network.state_dict()
        state = {
            "steps_done": self.steps_done,
            "network": {name: self._buffers.get(name, value) for name, value in network.items()},
            "adam": self._adam.state_dict(),
            "average": self.average,
            "random": self._random,
            "rates": self._rate_settings(),
            "changes": self.changes,
        }
        check_not_diverged(state, str(self._path))
        save_state(self._path, state)
        self._saved = self.steps_done

    def _restore(self) -> None:
        with reading_state(self._path) as state:
            check_not_diverged(state, str(self._path))
            self.steps_done = self._saved = int(state["steps_done"])
            self._network.load_state_dict(state["network"])
            self._adam.load_state_dict(state["adam"])
            for name, value in self.average.items():
                value.copy_(state["average"][name])
            if self._rng is not None:
                self._rng.bit_generator.state = json.loads(state["random"])
            earlier, self.changes = state["rates"], state["changes"]
        if self.steps_done > self._recipe.steps:
            raise ValueError(
                f"expected steps of at least {self.steps_done}, which are done in {self._path}, "
                f"found {self._recipe.steps}"
            )
        if self._had_other_rates(earlier):
            self.changes += self._describe_changes(earlier)

    def _had_other_rates(self, earlier: Mapping[str, Any]) -> bool:
        """Return whether the steps that are done would have had other rates with today's recipe."""
        now, before = self._recipe, replace(self._recipe, **earlier)
        differ = any(rates(before, step) != rates(now, step) for step in range(self.steps_done))
        return differ and self.steps_done < now.steps

    def _describe_changes(self, earlier: Mapping[str, Any]) -> list[str]:
        """Say in the log, and return for the card, which settings the run goes on with."""
        changes = [
            f"{self._recipe.section}{name} was {earlier[name]} until step {self.steps_done}, "
            f"then {value}"
            for name, value in self._rate_settings().items()
            if earlier[name] != value
        ]
        for change in changes:
            log.warning(
                "%s: the weights will not be those of a run that had it from the beginning", change
            )
        return changes

    def _rate_settings(self) -> dict[str, Any]:
        return {name: getattr(self._recipe, name) for name in RATE_SETTINGS}

    def _note_what_steps_change_early(self) -> None:
        """Copy what the next step changes before its update, for the state may be saved then.

        Those are its random numbers, and the statistics of batch norms.
        """
        self._random = json.dumps(self._rng.bit_generator.state if self._rng else None)
        self._buffers = {name: value.clone() for name, value in self._network.named_buffers()}


def zero_nonfinite(gradients: list[Tensor]) -> int:
    """Set NaN and infinite values to zero, as RT-1's public code does, and return their number."""
    found = sum(int((~torch.isfinite(gradient)).sum()) for gradient in gradients)
    for gradient in gradients:
        torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    return found


def check_not_diverged(values: object, name: str) -> None:
    """Check every tensor in nested mappings and lists.

    Raises:
        FloatingPointError: NaN or infinity.
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            check_not_diverged(value, f"{name}: {key}")
    elif isinstance(values, list | tuple):
        for value in values:
            check_not_diverged(value, name)
    elif isinstance(values, Tensor) and not is_finite(values):
        raise FloatingPointError(
            f"expected finite values for {name}, found NaN or infinity; lower the learning rate "
            "and run the same command again"
        )


def _keep_steps(metrics: Path, done: int) -> None:
    """Drop the lines of steps that an interruption undid: they are taken again."""
    if metrics.exists():
        kept = [line for line in whole_lines(metrics) if _step_of(line) <= done]
        write_text(metrics, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """Return the step of a line of metrics; infinity for one that a crash has damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError):
        return math.inf
