"""One optimiser step: its learning rate, averaged weights, progress, and a state that survives."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from configs.train import OptimiserConfig
from world_models.checkpoint import save_state


class Optimiser:
    """AdamW with warm-up, final decay, clipping and an exponential average of the weights.

    Attributes:
        average: The averaged weights by name.
        steps_done: Steps taken, over all sittings.
    """

    def __init__(self, network: nn.Module, cfg: OptimiserConfig, state: Path) -> None:
        """Start at step 0, or where `state` was left by an earlier sitting.

        Raises:
            ValueError: `state` is damaged or belongs to another network.
        """
        self._network = network
        self._cfg = cfg
        self._state = state
        self._adam = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate)
        self.steps_done = 0
        self.average = {k: v.detach().clone() for k, v in network.state_dict().items()}
        if state.exists():
            self._load()

    def remaining_steps(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be taken, with a progress bar.

        The state is saved every `save_every` steps, at the end, and when the loop is interrupted.
        """
        start = self.steps_done
        with tqdm(
            total=self._cfg.steps, initial=start, desc=self._state.stem, unit="step"
        ) as self._bar:
            try:
                for step in range(start, self._cfg.steps):
                    yield step
                    self._bar.update()
                    if (step + 1) % self._cfg.save_every == 0:
                        self._save()
            finally:
                if self.steps_done > start:
                    self._save()

    def step(self, loss: Tensor) -> None:
        """Follow the gradient of `loss` once.

        Raises:
            FloatingPointError: The loss is not finite.
        """
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"expected a finite loss at step {self.steps_done}, found {loss.item()}; "
                "lower learning_rate and run the same command again to resume"
            )
        for group in self._adam.param_groups:
            group["lr"] = self._cfg.learning_rate * rate(self._cfg, self.steps_done)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._cfg.clip_norm)
        self._adam.step()
        self.steps_done += 1
        self._update_average()
        if self.steps_done % 20 == 0:
            self._bar.set_postfix(loss=f"{loss.item():.4f}")

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self._cfg.ema_decay, (1 + self.steps_done) / (10 + self.steps_done))
        for name, value in self._network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def _save(self) -> None:
        state = {
            "steps_done": self.steps_done,
            "network": self._network.state_dict(),
            "adam": self._adam.state_dict(),
            "average": self.average,
        }
        save_state(self._state, state)

    def _load(self) -> None:
        try:
            state = torch.load(self._state, weights_only=True)
            self._network.load_state_dict(state["network"])
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"expected {self._state} to hold the training state of the configured network, "
                f"found a damaged file or another network's ({type(error).__name__}); "
                "delete it to start over, or choose another output folder"
            ) from error
        self._adam.load_state_dict(state["adam"])
        self.average, self.steps_done = state["average"], state["steps_done"]


def rate(cfg: OptimiserConfig, step: int) -> float:
    """Return the learning rate of a step as a share of its peak."""
    warm = (step + 1) / max(cfg.warmup, 1)
    left = (cfg.steps - step) / max(cfg.decay * cfg.steps, 1)
    return min(warm, left, 1.0)
