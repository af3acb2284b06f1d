"""What a step costs in frames and operations: counted, so the same on every machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from v2w_gym.evaluation.checks.bench.models import a_move, full_window, with_steps
from v2w_gym.world_models.state import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World

Step: TypeAlias = Callable[[Vid2World, RolloutState, Tensor, FrameNoise], object]


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


@contextmanager
def frame_forwards(model: Vid2World) -> Iterator[list[int]]:
    """Collect, call by call, how many frames reach the network's last layer in the context.

    The hook also keeps a GPU from replaying a captured graph, which passes no layer.
    """
    found: list[int] = []

    def passed(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(len(inputs[0]))

    hook = model.unet.conv_out.register_forward_pre_hook(passed)
    try:
        yield found
    finally:
        hook.remove()


def cached_step(
    model: Vid2World, state: RolloutState, action: Tensor, noise: FrameNoise
) -> RolloutState:
    """Take the model's own step."""
    return model.step(state, action.numpy(), noise)


def step_costs(model: Vid2World, numbers: Sequence[int], step: Step = cached_step) -> list[Cost]:
    """Return what a step costs with each of some numbers of denoising steps.

    Tensors without values pass. One and two denoising steps are counted: every further one costs
    what the second does.
    """
    with torch.device("meta"):
        twin = Vid2World(model.cfg).eval().requires_grad_(False)
    state, noise = full_window(twin, 1)
    given = state, torch.from_numpy(a_move(twin.robot)[None]), noise
    (frames, flops), (frames2, flops2) = (
        _count(twin, partial(step, with_steps(twin, n), *given)) for n in (1, 2)
    )
    _, decoder = _count(twin, partial(twin.autoencoder.decode, state.condition))
    return [
        Cost(
            frame_forwards=frames + (n - 1) * (frames2 - frames),
            flops=flops + (n - 1) * (flops2 - flops) + decoder,
        )
        for n in numbers
    ]


@torch.inference_mode()
def _count(model: Vid2World, work: Callable[[], object]) -> tuple[int, int]:
    with frame_forwards(model) as passed, FlopCounterMode(display=False) as counter:
        work()
    return sum(passed), counter.get_total_flops()
