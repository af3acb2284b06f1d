"""Choose the next action from a policy's chunks: execution horizon and temporal ensemble."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.policies import ProcessingConfig

Queue: TypeAlias = tuple[NDArray[np.float32], ...]
"""A slot's chunks, oldest first; each (n, D) holds the actions from the next step on."""


def check_chunks(cfg: ProcessingConfig, chunk: int) -> None:
    """Check that `cfg` can execute chunks of `chunk` actions.

    Raises:
        ValueError: No actions, or a horizon longer than the chunk or together with an ensemble.
    """
    if chunk < 1:
        raise ValueError(f"expected a policy with chunks of at least 1 action, found {chunk}")
    if not 0 <= cfg.execution_horizon <= chunk:
        raise ValueError(
            f"expected execution_horizon between 0 (all) and {chunk}, the length of the policy's "
            f"chunks, found {cfg.execution_horizon}"
        )
    if cfg.ensemble is not None and cfg.execution_horizon > 1:
        raise ValueError(
            "expected execution_horizon=0 or 1 together with an ensemble, which requests a chunk "
            f"in every step, found {cfg.execution_horizon}; set one of the two"
        )


def needs_chunk(queue: Queue, cfg: ProcessingConfig) -> bool:
    """Whether the policy must return a chunk before the next step."""
    return not queue or cfg.ensemble is not None


def add_chunk(queue: Queue, chunk: NDArray[np.float32], cfg: ProcessingConfig) -> Queue:
    """Return the queue with the policy's newest chunk (chunk, D)."""
    if cfg.ensemble is not None:
        return (*queue, chunk)
    return (chunk[: cfg.execution_horizon or None],)


def next_action(queue: Queue, cfg: ProcessingConfig) -> tuple[Queue, NDArray[np.float32]]:
    """Return the queue for later steps, and this step's action (D,).

    With an ensemble, the action is a weighted mean over all chunks of their action for this step:

        a = sum_i w_i a_i / sum_i w_i,  w_i = exp(-ensemble * i),  i = 0 for the oldest chunk

    Source: Learning Fine-Grained Bimanual Manipulation, arXiv 2304.13705, Algorithm 2.
    """
    later = tuple(chunk[1:] for chunk in queue if len(chunk) > 1)
    if cfg.ensemble is None:
        return later, queue[-1][0]
    # Scale the largest weight to 1, so that no exponential overflows.
    exponents = -cfg.ensemble * np.arange(len(queue))
    weights = np.exp(exponents - exponents.max())
    proposed = np.stack([chunk[0] for chunk in queue])  # (chunks, D)
    mean = (weights[:, None] * proposed).sum(0) / weights.sum()
    return later, mean.astype(np.float32)
