"""How an attempt at a task stands: what a judge and the actions have said so far.

Every environment keeps this count, so success, endings and `info` mean the same in all of them.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from v2w_gym.configs.tasks import Task
from v2w_gym.configs.values import is_whole_number
from v2w_gym.judges.base import SOLVED_FRAMES


@dataclass(frozen=True)
class RolloutKey:
    """What, besides start and actions, a rollout depends on; both in [0, 2**63)."""

    seed: int
    episode: int

    def __post_init__(self) -> None:
        """Refuse what is no whole number, or out of range."""
        for name, value in (("seed", self.seed), ("episode", self.episode)):
            if not is_whole_number(value) or not 0 <= value < 2**63:
                raise ValueError(f"expected {name} from 0 to 2**63 - 1, found {value!r}")
            object.__setattr__(self, name, int(value))

    def next(self) -> "RolloutKey":
        """Return the key of the rollout that follows when no new seed is given."""
        return RolloutKey(self.seed, self.episode + 1)


@dataclass(frozen=True)
class Progress:
    """How one attempt stands. It is never changed, so it can be branched from.

    Attributes:
        judged: Whether anybody decides on success.
        solved_at_start: Whether the task was solved before the first action; then nothing that
            follows is a success of the policy.
        solved: How many of the newest frames, without a gap, are solved.
        stopped: Whether the policy asked to end the attempt.
        actions_clipped: How many actions were outside the robot's bounds.
        actions_not_one_hot: How many actions had a one-hot field that was not one-hot.
    """

    judged: bool
    solved_at_start: bool = False
    solved: int = 0
    stopped: bool = False
    actions_clipped: int = 0
    actions_not_one_hot: int = 0

    def began(self, solved: bool) -> "Progress":
        """Return how it stands after the verdict on the first frame."""
        if solved:
            warnings.warn(
                "the task is solved already at the start: this attempt cannot become a success "
                "(info['solved_at_start']); begin from another start",
                stacklevel=2,
            )
        return replace(self, solved_at_start=solved)

    def acted(self, *, stopped: bool, clipped: bool, not_one_hot: bool) -> "Progress":
        """Return how it stands after one more action."""
        return replace(
            self,
            stopped=stopped,
            actions_clipped=self.actions_clipped + clipped,
            actions_not_one_hot=self.actions_not_one_hot + not_one_hot,
        )

    def seen(self, solved: bool) -> "Progress":
        """Return how it stands after the verdict on one more frame."""
        return replace(self, solved=self.solved + 1 if solved else 0)

    @property
    def success(self) -> bool:
        """Whether the policy has just solved the task, for `SOLVED_FRAMES` frames."""
        return self.solved >= SOLVED_FRAMES and not self.solved_at_start

    @property
    def terminated(self) -> bool:
        """Whether the attempt is over for a reason other than time."""
        return self.success or self.stopped

    def info(self, task: Task, key: RolloutKey) -> dict[str, Any]:
        """Return what an environment reports besides the frame.

        `info` says nothing of success without a judge.
        """
        verdict = {
            "success": self.success,
            "is_success": self.success,
            "solved_at_start": self.solved_at_start,
        }
        return {
            "task": task.name,
            "instruction": task.instruction,
            "seed": key.seed,
            "episode_index": key.episode,
            "actions_clipped": self.actions_clipped,
            "actions_not_one_hot": self.actions_not_one_hot,
            **(verdict if self.judged else {}),
        }


def check_options(options: object) -> Mapping[str, Any]:
    """Return what `reset` was given as options; None is none.

    Raises:
        ValueError: Not a mapping.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ValueError(f"expected options to be a dict or None, found {type(options).__name__}")
    return options


def next_key(previous: RolloutKey | None, seed: int | None, rng: np.random.Generator) -> RolloutKey:
    """Return the key of the next attempt: a seed restarts the episodes, none counts on."""
    if seed is not None:
        return RolloutKey(seed, 0)
    if previous is not None:
        return previous.next()
    return RolloutKey(int(rng.integers(2**32)), 0)
