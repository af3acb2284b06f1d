"""The cost of a step in frames and operations; these counts are the same on every machine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from v2w_gym.evaluation.checks.bench.models import full_window, same_moves, with_steps
from v2w_gym.world_models.state import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World

Step: TypeAlias = Callable[[Vid2World, RolloutState, NDArray[np.float32], FrameNoise], object]


@contextmanager
def frame_forwards(model: Vid2World) -> Iterator[list[int]]:
    """Collect, call by call, how many frames reach the network's last layer in the context.

    The hook also keeps a GPU from replaying a captured graph, which calls no layer.
    """
    found: list[int] = []
    layer = model.unet.conv_out
    with layer.register_forward_pre_hook(lambda layer, inputs: found.append(len(inputs[0]))):
        yield found


def step_costs(
    model: Vid2World, numbers: Sequence[int], step: Step = Vid2World.step
) -> list[dict[str, int]]:
    """Count the work of a step and its frame with each of some numbers of denoising steps.

    The count uses the meta device, and one rollout with a full window. It runs one and two
    denoising steps; every further step costs as much as the second.

    Returns:
        `frame_forwards`, the frames that the network computes, counted once per guidance branch.
        `flops` of matrix products and convolutions, with the decoder; a multiplication and an
        addition count as two.
    """
    with torch.device("meta"):
        twin = Vid2World(model.cfg).eval().requires_grad_(False)
    state, noise = full_window(twin, 1)
    given = state, same_moves(twin.robot, 1), noise
    one, two = (_count(twin, partial(step, with_steps(twin, n), *given)) for n in (1, 2))
    decoder = _count(twin, partial(twin.autoencoder.decode, state.condition))
    return [
        {name: one[name] + decoder[name] + (n - 1) * (two[name] - one[name]) for name in one}
        for n in numbers
    ]


@torch.inference_mode()
def _count(model: Vid2World, work: Callable[[], object]) -> dict[str, int]:
    with frame_forwards(model) as passed, FlopCounterMode(display=False) as counter:
        work()
    return {"frame_forwards": sum(passed), "flops": counter.get_total_flops()}
