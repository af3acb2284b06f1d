"""When a function is captured; `vid2world/test_gpu.py` captures on a GPU."""

import copy

import pytest
import torch
from torch import nn

from v2w_gym.world_models import captured_graph
from v2w_gym.world_models.captured_graph import CAPTURE_AFTER, KEPT, GraphedFunction


class Line(nn.Linear):
    """A network that counts how often Python runs it."""

    def __init__(self):
        super().__init__(1, 1, bias=False)
        nn.init.constant_(self.weight, 2.0)
        self.calls = 0
        self.graphed = GraphedFunction(self.function, self)

    def function(self, inputs):
        self.calls += 1
        x, (offset,) = inputs
        return (self(x) + offset,)

    def run(self, rows=1, times=1):
        for _ in range(times):
            out = self.graphed((torch.ones(rows, 1), (torch.ones(1),)))[0]
        return out


class StandIn:
    """Stands in for a CUDA graph: returns a function's first result from then on."""

    def __init__(self, function, inputs):
        self.outputs = function(inputs)

    def __call__(self, inputs):
        return self.outputs


@pytest.fixture
def line(monkeypatch):
    monkeypatch.setattr(captured_graph, "CapturedGraph", StandIn)
    return Line().eval().requires_grad_(False)


def test_python_runs_until_a_graph_is_captured(line):
    for _ in range(CAPTURE_AFTER + 20):
        assert line.run() == 3
    assert line.calls == CAPTURE_AFTER  # the last of them is captured


def test_other_shapes_have_graphs_of_their_own(line):
    line.run(times=CAPTURE_AFTER)
    assert line.run(rows=5).shape == (5, 1)
    assert line.calls == CAPTURE_AFTER + 1


def test_a_replaced_weight_is_noticed(line):
    line.run(times=CAPTURE_AFTER)
    line.weight = nn.Parameter(torch.full((1, 1), 7.0), requires_grad=False)
    assert line.run() == 8


def test_old_graphs_make_room_and_are_captured_again_when_used_often(line):
    for rows in range(1, KEPT + 2):
        line.run(rows, CAPTURE_AFTER)
    calls = line.calls
    line.run(KEPT + 1)
    assert line.calls == calls
    line.run(1, CAPTURE_AFTER - 1)
    assert line.calls == calls + CAPTURE_AFTER - 1


def test_a_copy_reads_its_own_weights(line):
    line.run(times=CAPTURE_AFTER)
    other = copy.deepcopy(line)
    other.weight.fill_(10)
    assert other.run(times=CAPTURE_AFTER) == 11
    assert line.run() == 3


def test_a_network_in_training_is_not_captured(line):
    line.train()
    line.run(times=2 * CAPTURE_AFTER)
    line.eval().requires_grad_(True)
    line.run(times=2 * CAPTURE_AFTER)
    assert line.calls == 4 * CAPTURE_AFTER


def test_a_hook_sees_every_pass(line):
    line.run(times=CAPTURE_AFTER)
    passes = []
    line.register_forward_hook(lambda *passed: passes.append(passed))
    line.run()
    assert len(passes) == 1
