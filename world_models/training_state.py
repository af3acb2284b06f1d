"""What a training run needs to go on: written whole and finite, or refused in one line."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from v2w_gym.world_models.checkpoint import is_finite, save_state

DAMAGED = (
    *(AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError),
    pickle.UnpicklingError,
)
"""What reading something else than the state of this network raises."""


class Progress:
    """The steps of a training that are done, and the state on disk from which it goes on.

    A state is written when its weights have proved good for one more gradient: weights that a step
    has ruined show it in the next one, and a run could not go on from there.

    Attributes:
        done: Steps taken, over all sittings.
        saved: How many of them the state on disk has taken.
    """

    def __init__(
        self,
        path: Path,
        steps: int,
        save_every: int,
        collect: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Begin at step 0; see `restoring`.

        Args:
            path: Where the state is kept.
            steps: Steps of the whole training.
            save_every: Steps between two states.
            collect: Returns what a state holds.
        """
        self._path = path
        self._steps = steps
        self._save_every = save_every
        self._collect = collect
        self._sound = True
        self.done = self.saved = 0

    @contextmanager
    def restoring(self) -> Iterator[dict[str, Any]]:
        """Yield the state on disk to restore from, and go on from its step.

        Raises:
            ValueError: It is damaged, belongs to another network, or has taken too many steps.
        """
        with reading_training_state(self._path) as state:
            yield state
            self.done = self.saved = int(state["steps_done"])
        if self.done > self._steps:
            raise ValueError(
                f"expected steps of at least {self.done}, which are done in {self._path}, found "
                f"{self._steps}"
            )

    def remaining(self) -> Iterator[int]:
        """Yield the numbers of the steps still to be taken, with a progress bar.

        The state is also saved at the end, and when the loop is interrupted.
        """
        with tqdm(
            total=self._steps, initial=self.done, desc=self._path.stem, unit="step"
        ) as self._bar:
            try:
                for step in range(self.done, self._steps):
                    yield step
                    self._bar.update()
            finally:
                if self._sound and self.done > self.saved:
                    self._save()

    @contextmanager
    def proving(self) -> Iterator[None]:
        """Compute the gradient of a step: the weights are good if none of it fails."""
        try:
            yield
        except FloatingPointError:
            self._sound = False
            raise
        if self.done % self._save_every == 0 and self.done > self.saved:
            self._save()

    @contextmanager
    def updating(self, loss: Tensor) -> Iterator[None]:
        """Change the weights, which makes one more step; nothing is saved in the middle of it."""
        self._sound = False
        yield
        self.done += 1
        self._sound = True
        if self.done % 20 == 0:
            self._bar.set_postfix(loss=f"{loss.item():.4f}")

    def _save(self) -> None:
        save_training_state(self._path, {**self._collect(), "steps_done": self.done})
        self.saved = self.done


def save_training_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state; an interruption leaves the older one.

    Raises:
        FloatingPointError: It holds NaN or infinity; the older state is still there.
        OSError: It could not be written; the older state is still there.
    """
    check_not_diverged(state, str(path))
    save_state(path, state)


@contextmanager
def reading_training_state(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a state to restore from; what goes wrong on the way is one line that names the file.

    Raises:
        ValueError: A file that is empty, damaged, not finite, or of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        check_not_diverged(state, str(path))
        yield state
    except (*DAMAGED, FloatingPointError) as error:
        raise ValueError(
            f"expected the state of this training run in {path}, found a damaged file or another "
            f"network's ({type(error).__name__}); delete it to start over, or choose another "
            "output=..."
        ) from error


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
