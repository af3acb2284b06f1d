"""Make PyTorch safe to use in forked processes."""

import os
import sys


def calm_threads_after_fork() -> None:
    """Limit PyTorch to one thread in every process that this one forks.

    A fork copies PyTorch's thread pool but none of its threads, so the first parallel operation
    would wait for ever. PyTorch does the same for the workers of a `DataLoader`.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:  # a torch that is imported later makes a new thread pool
        torch.set_num_threads(1)
