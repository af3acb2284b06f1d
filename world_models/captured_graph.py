"""CUDA graphs, which launch all kernels of a forward pass at once.

A pass over one frame at batch 1 launches about 1,800 kernels from Python, which takes longer than
their work. A captured graph runs the same kernels in the same order, so results are bit-identical.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from v2w_gym.world_models.state import Nested, leaves, map_nested, refill

Function: TypeAlias = Callable[[Nested], Nested]
"""A function from nested tensors to nested tensors, without side effects; it may read weights."""

CAPTURE_AFTER = 8
"""Calls with the same shapes before a capture, which costs about as much as so many calls."""
KEPT = 2
"""Most graphs to keep; each holds a copy of all inputs."""


class GraphedFunction:
    """A function of a network that is captured after several calls with inputs of the same shapes.

    A graph runs no Python, and reads weights at fixed addresses. So a network in training or with
    hooks runs without a graph, and one with new weights is captured again.
    """

    def __init__(self, function: Function, network: nn.Module) -> None:
        self._function = function
        self._layers = tuple(network.modules())
        self._calls: Counter[Hashable] = Counter()
        self._graphs: dict[Hashable, CapturedGraph] = {}

    def __call__(self, inputs: Nested) -> Nested:
        """Return the function's outputs for `inputs`, which are on one GPU."""
        if not self._can_capture():
            return self._function(inputs)
        tensors = list(leaves(inputs))
        key = (self._weights(), *((tensor.shape, tensor.dtype) for tensor in tensors))
        if key not in self._graphs:
            self._calls[key] += 1
            if self._calls[key] < CAPTURE_AFTER:
                return self._function(inputs)
            if len(self._graphs) >= KEPT:
                oldest = next(iter(self._graphs))
                del self._graphs[oldest], self._calls[oldest]
            self._graphs[key] = CapturedGraph(self._function, inputs)
        return self._graphs[key](inputs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the graphs, which belong to this process and these weights."""
        return {**vars(self), "_calls": Counter(), "_graphs": {}}

    def _can_capture(self) -> bool:
        network = self._layers[0]
        if network.training or next(network.parameters()).requires_grad:
            return False
        return not any(layer._forward_hooks or layer._forward_pre_hooks for layer in self._layers)

    def _weights(self) -> int:
        parameters = (layer._parameters.values() for layer in self._layers)
        return hash(tuple(w.data_ptr() for own in parameters for w in own if w is not None))


class CapturedGraph:
    """A function as a CUDA graph, which reads copies of its inputs at fixed addresses."""

    def __init__(self, function: Function, inputs: Nested) -> None:
        """Warm the function up, as CUDA requires, and capture it."""
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
        """Run the graph on `inputs`; copy only those that changed since the last call."""
        tensors = list(leaves(inputs))
        for place, tensor, last in zip_longest(self._inputs, tensors, self._last):
            if tensor is not last:
                place.copy_(tensor)
        self._last = tensors
        self._graph.replay()
        return map_nested(torch.clone, self._outputs)
