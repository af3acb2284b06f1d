"""The optimiser of every training: AdamW, averaged weights, a log, and a state to resume from.

A training makes an `Optimiser` and loops over its steps:

    optimiser = Optimiser(network, recipe, folder / "fit.state", folder / "metrics.jsonl")
    for step in optimiser.remaining_steps():
        optimiser.step(loss_of(network, step))
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from v2w_gym.world_models.checkpoint import is_finite
from v2w_gym.world_models.files import whole_lines, write_text
from v2w_gym.world_models.saved_state import reading_state, save_state
from v2w_gym.world_models.schedules import RATE_SETTINGS, Recipe, rates

log = logging.getLogger(__name__)


class Optimiser:
    """AdamW with averaged weights, a log, and a state on disk to resume from.

    A state is saved only after its weights gave a finite loss and gradient in the next step. So a
    run never resumes from weights that a bad step ruined.

    Attributes:
        steps_done: Steps taken, including those before an interruption.
        average: The averaged weights by name; empty if the recipe keeps none.
        changes: Changes of settings in resumed runs, as text for the card.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        state: Path,
        metrics: Path,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Start at step 0, or resume from the file `state` if it exists.

        Args:
            network: The network to train, on its final device.
            recipe: The settings of the training.
            state: File of the state.
            metrics: The log, a line of JSON per step. A resumed run repeats the steps after
                `state`, so their lines are dropped.
            rng: Generator that all steps draw from, which the state includes. None if each step
                makes its own from (seed, step), which is simpler.

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
        self._copy_random_state_and_buffers()
        _keep_steps(metrics, self.steps_done)

    def remaining_steps(self) -> Iterator[int]:
        """Yield the numbers of the remaining steps, with a progress bar.

        A step is done when the loop asks for the next one. The state is saved every
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
                    self._copy_random_state_and_buffers()
                    self._sound = True
                    self._bar.update()
            finally:
                if self._sound:
                    self._save()

    def step(self, loss: Tensor) -> None:
        """Take one optimiser step on `loss`.

        Raises:
            FloatingPointError: The loss or its gradient is not finite; no weight has changed.
        """
        self._adam.zero_grad(set_to_none=True)
        try:
            norm, zeroed = self._finite_gradient(loss)
            if self.steps_done % self._recipe.save_every == 0:
                self._save()
        except (FloatingPointError, OSError):
            self._sound = False  # the end of the loop must not save again
            raise
        self._sound = False  # from here until the step is done, weights and step number disagree
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
        """Add a line of JSON values to the log, under the current step."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.steps_done + 1, **values}) + "\n")

    def _finite_gradient(self, loss: Tensor) -> tuple[Tensor, int]:
        """Compute the gradient; return its norm, and the number of values set to zero."""
        self._check_finite("loss", loss)
        loss.backward()
        gradients = [w.grad for w in self._network.parameters() if w.grad is not None]
        norm, zeroed = nn.utils.get_total_norm(gradients), 0
        if self._recipe.nonfinite == "zero" and not torch.isfinite(norm):
            zeroed = zero_nonfinite(gradients)
            norm = nn.utils.get_total_norm(gradients)
        self._check_finite("gradient", norm)  # the norm of finite values may overflow
        return norm, zeroed

    def _check_finite(self, what: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            found = f"one of norm {value.item()}" if what == "gradient" else value.item()
            raise FloatingPointError(
                f"expected a finite {what} at step {self.steps_done}, found {found}; lower "
                f"{self._recipe.section}learning_rate and run the same command again: it resumes "
                f"from step {self._saved}"
            )

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the average towards the weights: average = d average + (1 - d) weight.

        After n steps d is at most (1 + n) / (10 + n), so that the average soon forgets the random
        initial weights.
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
        """Save the state if it is newer than the one on disk."""
        if self.steps_done == self._saved:
            return
        network = self._network.state_dict()
        # A save before an update must not contain the buffers that the forward pass changed.
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
                f"expected steps of at least {self.steps_done}, as {self._path} has taken them, "
                f"found {self._recipe.steps}"
            )
        if self._had_other_rates(earlier):
            self.changes += self._describe_changes(earlier)

    def _had_other_rates(self, earlier: Mapping[str, Any]) -> bool:
        """Return whether the current recipe gives past steps other rates than they had."""
        now, before = self._recipe, replace(self._recipe, **earlier)
        differ = any(rates(before, step) != rates(now, step) for step in range(self.steps_done))
        return differ and self.steps_done < now.steps

    def _describe_changes(self, earlier: Mapping[str, Any]) -> list[str]:
        """Log the changed settings of a resumed run, and return them as text for the card."""
        changes = [
            f"{self._recipe.section}{name} was {earlier[name]} until step {self.steps_done}, "
            f"then {value}"
            for name, value in self._rate_settings().items()
            if earlier[name] != value
        ]
        for change in changes:
            log.warning(
                "%s: the weights will differ from those of a run with the new value from the start",
                change,
            )
        return changes

    def _rate_settings(self) -> dict[str, Any]:
        return {name: getattr(self._recipe, name) for name in RATE_SETTINGS}

    def _copy_random_state_and_buffers(self) -> None:
        """Copy the random state and buffers, since a step changes them before its update.

        The state may be saved in between. Buffers hold the statistics of batch norms.
        """
        self._random = json.dumps(self._rng.bit_generator.state if self._rng else None)
        self._buffers = {name: value.clone() for name, value in self._network.named_buffers()}


def zero_nonfinite(gradients: list[Tensor]) -> int:
    """Set NaN and infinite values to zero, as RT-1's public code does; return their number."""
    found = sum(int((~torch.isfinite(gradient)).sum()) for gradient in gradients)
    for gradient in gradients:
        torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    return found


def check_not_diverged(values: object, name: str) -> None:
    """Check that every tensor in nested mappings and lists is finite.

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
    """Drop the lines of steps after `done`, which a resumed run repeats."""
    if metrics.exists():
        kept = [line for line in whole_lines(metrics) if _step_of(line) <= done]
        write_text(metrics, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """Return the step of a line of metrics; infinity for a damaged line."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError):
        return math.inf
