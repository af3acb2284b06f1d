"""The folder of a training run: its settings, what happened, and the state that a resume needs."""

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from v2w_gym.world_models.files import replacing
from v2w_gym.world_models.optimiser import describe_changes
from v2w_gym.world_models.run_folder import check_identity, note_identity
from v2w_gym.world_models.training_state import reading_training_state, save_training_state

SETTINGS, METRICS, STATE = "config.json", "metrics.jsonl", "train_state.pt"
MAY_DIFFER = (
    *("device", "readers", "save_every", "threads"),  # these change what is learned by rounding
    *("output", "weights"),
    *("episodes", "held_out", "instructions", "encoder_weights"),  # paths; "data" is their content
    "optimiser.learning_rate",
)
"""Settings that a resumed run may have differently."""


class TrainingRun:
    """Keeps a run's settings, its metrics (one JSON object a line) and its state.

    The state appears whole and finite or not at all. Metrics of steps after it are dropped when the
    run is resumed, which takes those steps again.

    Attributes:
        changes: Which learning rates the run had before, and until when.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Check that the folder is new, or a run of the same settings; nothing is written yet.

        Raises:
            ValueError: A run of other settings.
        """
        self.folder = folder
        self.changes: list[str] = []
        self._settings = dict(settings)
        self._unproved: Mapping[str, Any] | None = None
        check_identity(folder / SETTINGS, self._settings, MAY_DIFFER)

    def load(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Make the folder, restore its state if there is one, and return the steps it has done.

        Raises:
            ValueError: The state is damaged, or belongs to another network.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        note_identity(self.folder / SETTINGS, self._settings)
        done, path = 0, self.folder / STATE
        if path.exists():
            with reading_training_state(path) as state:
                network.load_state_dict(state["network"])
                optimiser.load_state_dict(state["optimiser"])
                done = int(state["done"])
                earlier = state.get("schedule", self._schedule())
                self.changes = state.get("changes", [])
            if done < self._settings["steps"]:
                self.changes += describe_changes(earlier, self._schedule(), done, "optimiser.")
        self._keep_metrics(done)
        return done

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, done: int) -> None:
        """Write the state after `done` steps.

        Raises:
            FloatingPointError: It is not finite; the state before it is still there.
            OSError: It could not be written; the state before it is still there.
        """
        save_training_state(self.folder / STATE, self._state(network, optimiser, done))

    def save_if_next_step_is_finite(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, done: int
    ) -> None:
        """Keep the state after `done` steps in memory until `prove`, which writes it.

        Weights that a step has ruined show it in the next one: no state is written from which the
        run could not go on.
        """
        self._unproved = deepcopy(self._state(network, optimiser, done))

    def prove(self) -> None:
        """Write what `save_if_next_step_is_finite` kept, if it kept something."""
        if self._unproved is not None:
            save_training_state(self.folder / STATE, self._unproved)
            self._unproved = None

    def note(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics; it holds the number of steps done as "step"."""
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _state(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, done: int
    ) -> dict[str, Any]:
        return {
            "done": done,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": self._schedule(),
            "changes": self.changes,
        }

    def _schedule(self) -> dict[str, Any]:
        return {"learning_rate": self._settings.get("optimiser", {}).get("learning_rate")}

    def _keep_metrics(self, done: int) -> None:
        path = self.folder / METRICS
        lines = (
            path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else []
        )
        kept = [line for line in lines if _step_of(line) <= done]
        with replacing(path) as partial:
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """Return the step of a line of metrics; infinity for one that a crash has damaged."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, LookupError, TypeError):
        return math.inf
