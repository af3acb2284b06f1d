"""Run a function of tensors over and over for little more than its arithmetic.

A small network that passes one frame spends as long in Python as in its layers. So a function that
is asked often enough for the same shapes is recorded: as a CUDA graph on a GPU, as a TorchScript
trace on a CPU. A recording does the same operations in the same order: results are the same bits.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor

from v2w_gym.world_models.nested import Nested, leaves, map_nested, refill

Function: TypeAlias = Callable[[Nested], Nested]
"""From nested tensors to nested tensors; it depends on nothing else and changes nothing."""

RECORD_AFTER = {"cpu": 64, "cuda": 8}
"""Calls with the same shapes after which a recording pays: it costs as much as about so many."""
KEPT = {"cpu": 8, "cuda": 2}
"""Recordings that are kept; on a GPU each holds a copy of all that goes in."""


class Replay:
    """A function, recorded where that pays."""

    def __init__(self, function: Function) -> None:
        """Begin with nothing recorded."""
        self._function = function
        self._asked: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, Function] = {}

    def __call__(self, inputs: Nested, weights: int) -> Nested:
        """Return what the function makes of `inputs`.

        Args:
            inputs: Nested tensors, all on one device.
            weights: Where the function's weights lie: what was recorded of others is not used.
        """
        tensors = list(leaves(inputs))
        kind = tensors[0].device.type
        key = (weights, *((tensor.shape, tensor.dtype) for tensor in tensors))
        if key in self._recordings:
            return self._recordings[key](inputs)
        self._asked[key] += 1
        if kind not in RECORDERS or self._asked[key] < RECORD_AFTER[kind]:
            return self._function(inputs)
        if len(self._recordings) >= KEPT[kind]:
            oldest = next(iter(self._recordings))
            del self._recordings[oldest], self._asked[oldest]
        self._recordings[key] = RECORDERS[kind](self._function, inputs)
        return self._recordings[key](inputs)

    def __getstate__(self) -> dict[str, Any]:
        """Copy without what is recorded, which belongs to this process and to these weights."""
        return {**vars(self), "_asked": Counter(), "_recordings": {}}


class Traced:
    """A function as a TorchScript trace."""

    def __init__(self, function: Function, inputs: Nested) -> None:
        """Record it; `inputs` are not kept."""
        self._outputs: Nested = ()
        structure = _hollow(inputs)

        def flat(*tensors: Tensor) -> tuple[Tensor, ...]:
            self._outputs = function(refill(structure, iter(tensors)))
            return tuple(leaves(self._outputs))

        with warnings.catch_warnings():  # about shapes, which the key holds, and about its age
            warnings.simplefilter("ignore")
            self._trace = torch.jit.trace(flat, tuple(leaves(inputs)), check_trace=False)
        self._outputs = _hollow(self._outputs)

    def __call__(self, inputs: Nested) -> Nested:
        """Do it again."""
        return refill(self._outputs, iter(self._trace(*leaves(inputs))))


class Captured:
    """A function as a CUDA graph, whose inputs lie where they lay when it was captured.

    What did not change since the last call is not copied there again.
    """

    def __init__(self, function: Function, inputs: Nested) -> None:
        """Run it a few times, as CUDA asks for, and capture it."""
        self._last: list[Tensor] = []
        self._inputs = [tensor.clone() for tensor in leaves(inputs)]
        fixed = refill(inputs, iter(self._inputs))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._inputs[0].device):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(3):
                    function(fixed)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(self._graph, stream=aside):
                self._outputs = function(fixed)

    def __call__(self, inputs: Nested) -> Nested:
        """Do it again."""
        tensors = list(leaves(inputs))
        for place, tensor, last in zip_longest(self._inputs, tensors, self._last):
            if tensor is not last:
                place.copy_(tensor)
        self._last = tensors
        self._graph.replay()
        return map_nested(torch.clone, self._outputs)


def _hollow(nested: Nested) -> Nested:
    """Return the structure alone, with nothing in its tensors."""
    return map_nested(lambda tensor: tensor.new_empty(0), nested)


RECORDERS: Mapping[str, Callable[[Function, Nested], Function]] = {
    "cpu": Traced,
    "cuda": Captured,
}
"""How a function is recorded, by the kind of device."""
