"""One optimiser step: its learning rate, averaged weights, progress, and a state that survives."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from v2w_gym.configs.train import OptimiserConfig
from v2w_gym.world_models.training_state import Progress

log = logging.getLogger(__name__)

SCHEDULE = ("learning_rate", "warmup", "decay", "steps")
"""Settings that a run may go on with differently; see `Optimiser.changes`."""


class Optimiser:
    """AdamW with warm-up, final decay, clipping and an exponential average of the weights.

    Attributes:
        average: The averaged weights by name.
        changes: What was changed between two sittings so that other weights came of it.
    """

    def __init__(self, network: nn.Module, cfg: OptimiserConfig, state: Path) -> None:
        """Start at step 0, or where `state` was left by an earlier sitting.

        Raises:
            ValueError: `state` is damaged, belongs to another network, or has taken more steps.
        """
        self._network = network
        self._cfg = cfg
        self._section = state.stem
        self._adam = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate)
        self._progress = Progress(state, cfg.steps, cfg.save_every, self._collect)
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self.changes: list[str] = []
        if state.exists():
            self._restore()

    @property
    def steps_done(self) -> int:
        """Steps taken, over all sittings."""
        return self._progress.done

    def remaining_steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be taken, with a progress bar.

        The state is saved every `save_every` steps, at the end, and when the loop is interrupted.
        """
        return self._progress.remaining()

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of `loss` once.

        Raises:
            FloatingPointError: The loss or its gradient is not finite; nothing has changed.
        """
        self._adam.zero_grad(set_to_none=True)
        with self._progress.proving():
            norm = finite_gradient(
                loss, self._network, self._progress, f"{self._section}.learning_rate"
            )
        with self._progress.updating(loss):
            for group in self._adam.param_groups:
                group["lr"] = learning_rate(self._cfg, self.steps_done)
            nn.utils.clip_grads_with_norm_(self._network.parameters(), self._cfg.clip_norm, norm)
            self._adam.step()
            self._update_average()

    @torch.no_grad()
    def _update_average(self) -> None:
        taken = self.steps_done + 1
        decay = min(self._cfg.ema_decay, (1 + taken) / (10 + taken))
        for name, value in self._network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def _collect(self) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "adam": self._adam.state_dict(),
            "average": self.average,
            "schedule": self._schedule(),
            "changes": self.changes,
        }

    def _restore(self) -> None:
        with self._progress.restoring() as state:
            self._network.load_state_dict(state["network"])
            self._adam.load_state_dict(state["adam"])
            self.average = state["average"]
            self.changes = state.get("changes", [])
            earlier = state.get("schedule", self._schedule())
        if self._has_other_rates(earlier):
            now = self._schedule()
            self.changes += describe_changes(earlier, now, self.steps_done, f"{self._section}.")

    def _has_other_rates(self, earlier: Mapping[str, Any]) -> bool:
        """Return whether the steps that are done were taken at other rates than they now would."""
        before, done = replace(self._cfg, **earlier), range(self.steps_done)
        differ = any(learning_rate(before, s) != learning_rate(self._cfg, s) for s in done)
        return differ and self.steps_done < self._cfg.steps

    def _schedule(self) -> dict[str, Any]:
        return {name: getattr(self._cfg, name) for name in SCHEDULE}


class OneCycleConfig(Protocol):
    """The settings that `OneCycle` needs."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        ...

    @property
    def learning_rate(self) -> float:
        """Peak rate."""
        ...

    @property
    def save_every(self) -> int:
        """Steps between saves of the state."""
        ...


class OneCycle:
    """AdamW under one cycle of the learning rate, with clipping.

    Attributes:
        changes: What was changed between two sittings so that other weights came of it.
    """

    CLIP_NORM = 1.0

    def __init__(
        self,
        network: nn.Module,
        cfg: OneCycleConfig,
        state: Path,
        rng: np.random.Generator | None,
        weight_decay: float,
    ) -> None:
        """Start at step 0, or where `state` was left by an earlier sitting.

        Args:
            network: What is trained.
            cfg: How long, at which rate, and how often the state is saved.
            state: Where the state is kept.
            rng: What all steps draw from, one after another; it goes on where it was. None if each
                step has its own.
            weight_decay: Of AdamW.

        Raises:
            ValueError: `state` is damaged, or belongs to another network.
        """
        self._network = network
        self._schedule = {"learning_rate": cfg.learning_rate}
        self._rng = rng
        self._adam = torch.optim.AdamW(
            network.parameters(), lr=cfg.learning_rate, weight_decay=weight_decay
        )
        self._cycle = torch.optim.lr_scheduler.OneCycleLR(self._adam, cfg.learning_rate, cfg.steps)
        self._progress = Progress(state, cfg.steps, cfg.save_every, self._collect)
        self._drawn = self._random_state()
        self.changes: list[str] = []
        if state.exists():
            self._restore()

    def remaining_steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be taken; see `Optimiser.remaining_steps`."""
        return self._progress.remaining()

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of `loss` once.

        Raises:
            FloatingPointError: The loss or its gradient is not finite; nothing has changed.
        """
        self._adam.zero_grad(set_to_none=True)
        with self._progress.proving():
            norm = finite_gradient(loss, self._network, self._progress, "learning_rate")
        with self._progress.updating(loss):
            nn.utils.clip_grads_with_norm_(self._network.parameters(), self.CLIP_NORM, norm)
            self._adam.step()
            self._cycle.step()
            self._drawn = self._random_state()

    def _random_state(self) -> str:
        return json.dumps(self._rng.bit_generator.state if self._rng else None)

    def _collect(self) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "adam": self._adam.state_dict(),
            "cycle": self._cycle.state_dict(),
            "random": self._drawn,
            "schedule": self._schedule,
            "changes": self.changes,
        }

    def _restore(self) -> None:
        (group,) = self._adam.param_groups
        peak = {name: group[name] for name in ("initial_lr", "max_lr", "min_lr")}
        with self._progress.restoring() as state:
            self._network.load_state_dict(state["network"])
            self._adam.load_state_dict(state["adam"])
            self._cycle.load_state_dict(state["cycle"])
            self.changes = state["changes"]
            earlier, self._drawn = state["schedule"], state["random"]
            if self._rng is not None:
                self._rng.bit_generator.state = json.loads(self._drawn)
        if earlier != self._schedule and self._progress.done < self._cycle.total_steps:
            self._set_peak(peak)
            self.changes += describe_changes(earlier, self._schedule, self._progress.done, "")

    def _set_peak(self, peak: Mapping[str, float]) -> None:
        """Take the rate of the step that comes next from a cycle with another peak."""
        for group in self._adam.param_groups:
            group.update(peak)
        self._cycle.last_epoch -= 1
        self._cycle.step()


def rate(cfg: OptimiserConfig, step: int) -> float:
    """Return the learning rate of a step as a share of its peak."""
    warm = (step + 1) / max(cfg.warmup, 1)
    left = (cfg.steps - step) / max(cfg.decay * cfg.steps, 1)
    return min(warm, left, 1.0)


def learning_rate(cfg: OptimiserConfig, step: int) -> float:
    """Return the learning rate of a step."""
    return cfg.learning_rate * rate(cfg, step)


def describe_changes(
    earlier: Mapping[str, Any], now: Mapping[str, Any], done: int, prefix: str
) -> list[str]:
    """Say in the log, and return for the card, which settings a run goes on with differently."""
    changes = [
        f"{prefix}{name} was {earlier[name]} until step {done}, then {now[name]}"
        for name in now
        if earlier[name] != now[name]
    ]
    for change in changes:
        log.warning(
            "%s: the weights will not be those of a run that had it from the beginning", change
        )
    return changes


def finite_gradient(loss: Tensor, network: nn.Module, progress: Progress, setting: str) -> Tensor:
    """Compute the gradient of `loss` and return its norm.

    Raises:
        FloatingPointError: The loss or the norm is not finite; the message says what to do.
    """
    advice = f"lower {setting} and run the same command again: it goes on from step "
    advice += str(progress.saved)
    check_loss(loss, progress.done, advice)
    loss.backward()
    gradients = [w.grad for w in network.parameters() if w.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    check_norm(norm, progress.done, advice)
    return norm


def check_loss(loss: Tensor, step: int, advice: str) -> None:
    """Check that the loss of a step is a number.

    Raises:
        FloatingPointError: NaN or infinity; `advice` says what to do.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"expected a finite loss at step {step}, found {loss.item()}; {advice}"
        )


def check_norm(norm: Tensor, step: int, advice: str) -> None:
    """Check that the gradient of a step is finite, given its norm.

    Raises:
        FloatingPointError: NaN or infinity; `advice` says what to do.
    """
    if not torch.isfinite(norm):
        raise FloatingPointError(
            f"expected a finite gradient at step {step}, found one of norm {norm.item()}; {advice}"
        )
