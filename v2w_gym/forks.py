"""What a forked process needs before it can use PyTorch."""

import os
import sys


def calm_threads_after_fork() -> None:
    """Let PyTorch work with one thread in every process that this one forks from now on.

    A fork copies PyTorch's thread pool but none of its threads, and the first operation that asks
    the pool for help would wait for ever. PyTorch does the same for the workers of a `DataLoader`.
    """
    if hasattr(os, "register_at_fork"):  # where processes cannot be forked nothing is needed
        os.register_at_fork(after_in_child=_use_one_thread)


def _use_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:  # what was not imported has no thread pool yet
        torch.set_num_threads(1)
