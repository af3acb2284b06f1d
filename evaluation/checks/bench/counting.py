"""Count the work of a step on tensors without values: the same on every machine, for any size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from v2w_gym.evaluation.checks.bench.timing import Work

from v2w_gym.evaluation.checks.bench.arms import a_move, full_window, with_steps
from v2w_gym.evaluation.checks.bench.naive import naive_step
from v2w_gym.world_models.base import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World

Step: TypeAlias = Callable[[Vid2World, RolloutState, FrameNoise], RolloutState]


@dataclass(frozen=True)
class Cost:
    """The work of one step and its frame, of one rollout with a full window.

    Attributes:
        frame_forwards: Frames that pass the network, each guidance branch for itself.
        flops: Operations of matrix products and convolutions, the decoder's included; a
            multiplication and an addition count as two.
    """

    frame_forwards: int
    flops: int


@dataclass
class FrameForwards:
    """Frames that have passed the whole network, each guidance branch for itself."""

    count: int = 0


@contextmanager
def frame_forwards(model: Vid2World) -> Iterator[FrameForwards]:
    """Count the frames that reach the network's last layer while the context lasts.

    The hook also keeps a GPU from replaying a captured graph, which passes no layer.
    """
    found = FrameForwards()

    def passed(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.count += len(inputs[0])

    hook = model.unet.conv_out.register_forward_pre_hook(passed)
    try:
        yield found
    finally:
        hook.remove()


def step_cost(model: Vid2World) -> Cost:
    """Return what a step of the model costs."""
    steps = model.cfg.sampler.steps
    return step_costs(model, [steps])[steps]


def step_costs(model: Vid2World, numbers: Sequence[int]) -> dict[int, Cost]:
    """Return what a step costs, by numbers of denoising steps."""
    action = a_move(model.robot)[None]
    return _costs(model, numbers, lambda twin, state, noise: twin.step(state, action, noise))


def naive_costs(model: Vid2World, numbers: Sequence[int]) -> dict[int, Cost]:
    """Return what a naive step costs, by numbers of denoising steps."""
    action = torch.from_numpy(a_move(model.robot)[None])
    return _costs(model, numbers, lambda twin, state, noise: naive_step(twin, state, action, noise))


def _costs(model: Vid2World, numbers: Sequence[int], step: Step) -> dict[int, Cost]:
    """Count two and three denoising steps: every further one costs what the third does."""
    with torch.device("meta"):
        twin = Vid2World(model.cfg).eval().requires_grad_(False)
    state, noise = full_window(twin, 1)
    two, three = (
        _count(twin, partial(step, with_steps(twin, steps), state, noise)) for steps in (2, 3)
    )
    decoder = _count(twin, partial(twin.autoencoder.decode, state.condition))
    frames = three.frame_forwards - two.frame_forwards
    flops = three.flops - two.flops
    return {
        steps: Cost(
            frame_forwards=two.frame_forwards + (steps - 2) * frames,
            flops=two.flops + (steps - 2) * flops + decoder.flops,
        )
        for steps in numbers
    }


@torch.inference_mode()
def _count(model: Vid2World, work: Work) -> Cost:
    with frame_forwards(model) as passed, FlopCounterMode(display=False) as counter:
        work()
    return Cost(passed.count, counter.get_total_flops())
