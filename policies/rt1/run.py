"""The folder of a training run: its settings, what happened, and the state that a resume needs."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from world_models.checkpoint import replacing, save_state

SETTINGS, METRICS, STATE = "config.json", "metrics.jsonl", "train_state.pt"
MAY_CHANGE = ("device", "readers", "save_every", "threads")
"""Settings that a resumed run may have differently: they change what is learned by rounding."""


class TrainingRun:
    """Keeps a run's settings, its metrics (one JSON object a line) and its state.

    The state appears whole or not at all. Metrics of steps after it are dropped when the run is
    resumed, which takes those steps again.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Check that the folder is new, or a run of the same settings; nothing is written yet.

        Raises:
            ValueError: A run of other settings.
        """
        self.folder = folder
        self._settings = dict(settings)
        noted = folder / SETTINGS
        if noted.exists():
            found = json.loads(noted.read_text(encoding="utf-8"))
            wanted = json.loads(json.dumps(self._settings))
            other = [key for key in wanted if found.get(key) != wanted[key]]
            if other := sorted(set(other) - set(MAY_CHANGE)):
                raise ValueError(
                    f"expected the settings in {noted}, found another {', '.join(other)}; repeat "
                    "the command that made the folder or choose another output="
                )

    def load(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
        """Make the folder, restore its state if there is one, and return the steps it has done.

        Raises:
            ValueError: The state is damaged, or belongs to another network.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / SETTINGS) as partial:
            partial.write_text(json.dumps(self._settings, indent=2) + "\n", encoding="utf-8")
        done, path = 0, self.folder / STATE
        if path.exists():
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
                network.load_state_dict(state["network"])
                optimiser.load_state_dict(state["optimiser"])
                done = int(state["done"])
            except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
                raise ValueError(
                    f"expected the state of this training run in {path}, found a damaged file or "
                    f"another network's ({type(error).__name__}); delete it to start over, or "
                    "choose another output="
                ) from error
        self._keep_metrics(done)
        return done

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, done: int) -> None:
        """Write the state after `done` steps.

        Raises:
            OSError: It could not be written; the state before it is still there.
        """
        state = {
            "done": done,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        save_state(self.folder / STATE, state)

    def note(self, line: Mapping[str, Any]) -> None:
        """Add one line to the metrics; it holds the number of steps done as "step"."""
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _keep_metrics(self, done: int) -> None:
        path = self.folder / METRICS
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        # A line that was cut off by a crash belongs to a step after the last state.
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= done]
        with replacing(path) as partial:
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
