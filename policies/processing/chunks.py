"""Which action of which answer is carried out: execution horizon and temporal ensemble."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.policies import ProcessingConfig

Queue: TypeAlias = tuple[NDArray[np.float32], ...]
"""What is left of a slot's answers, each (n, D) from the next step on, the oldest first."""


def check_chunks(cfg: ProcessingConfig, chunk: int) -> None:
    """Check that chunks of so many actions can be carried out as `cfg` says.

    Raises:
        ValueError: No actions, a horizon longer than the chunk, or one together with an ensemble.
    """
    if chunk < 1:
        raise ValueError(f"expected a policy that gives at least 1 action at once, found {chunk}")
    if not 0 <= cfg.execution_horizon <= chunk:
        raise ValueError(
            f"expected execution_horizon between 0 (all) and {chunk}, the actions that the policy "
            f"gives at once, found {cfg.execution_horizon}"
        )
    if cfg.ensemble is not None and cfg.execution_horizon > 1:
        raise ValueError(
            "expected execution_horizon=0 or 1 together with an ensemble, which asks in every "
            f"step, found {cfg.execution_horizon}; set one of the two"
        )


def needs_answer(queue: Queue, cfg: ProcessingConfig) -> bool:
    """Whether the policy must be asked before the next step."""
    return not queue or cfg.ensemble is not None


def add_answer(queue: Queue, answer: NDArray[np.float32], cfg: ProcessingConfig) -> Queue:
    """Return the queue with the policy's newest answer (chunk, D) at its end."""
    if cfg.ensemble is not None:
        return (*queue, answer)
    return (answer[: cfg.execution_horizon or None],)


def next_action(queue: Queue, cfg: ProcessingConfig) -> tuple[Queue, NDArray[np.float32]]:
    """Return the queue for the steps after this one, and this step's action (D,).

    With an ensemble it is the mean of what all answers say of this step, the i-th oldest weighing
    exp(-ensemble * i).

    Source: Learning Fine-Grained Bimanual Manipulation, arXiv 2304.13705, Algorithm 2.
    """
    later = tuple(answer[1:] for answer in queue if len(answer) > 1)
    if cfg.ensemble is None:
        return later, queue[-1][0]
    # The largest weight is brought to 1, so that no exponential overflows.
    exponents = -cfg.ensemble * np.arange(len(queue))
    weights = np.exp(exponents - exponents.max())
    proposed = np.stack([answer[0] for answer in queue])  # (answers, D)
    mean = (weights[:, None] * proposed).sum(0) / weights.sum()
    return later, mean.astype(np.float32)
