"""Time work: processor time on a CPU, events on a GPU; whoever is compared takes turns."""

import time
from collections.abc import Callable, Sequence
from math import inf
from typing import TypeAlias

import numpy as np
import torch

Work: TypeAlias = Callable[[], object]


def seconds(work: Work, device: torch.device) -> float:
    """Return what `work` takes: processor time of this process, or time between events on a GPU.

    Processor time leaves out what other processes do to a shared machine.
    """
    if device.type != "cuda":
        began = time.process_time()
        work()
        return time.process_time() - began
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000


def wall_seconds(work: Work, device: torch.device) -> float:
    """Return what `work` takes by the clock on the wall, until its last kernel is done."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def fastest(
    turn: Sequence[tuple[str, Work]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Return the least time of each name in `turn`, which is taken `repeats` times.

    Who is compared takes turns, so that what else the machine does meets all of them.
    """
    least: dict[str, float] = {}
    for name, work in list(turn) * repeats:
        least[name] = min(least.get(name, inf), seconds(work, device))
    return least


def percentiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile, by linear interpolation."""
    p50, p99 = np.percentile(samples, [50, 99])
    return float(p50), float(p99)
