"""The baseline: the next frame by its definition, without any optimisation.

Every denoising step computes the whole window, one guidance branch after the other. The baseline
shares weights, the layers over a whole window, schedule and noise with `Vid2World.step`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.sampler import FIRST_DRAW
from v2w_gym.world_models.solvers import make_solver
from v2w_gym.world_models.state import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.temporal import FullWindow


@torch.inference_mode()
def naive_next(
    model: Vid2World,
    state: RolloutState,
    action: NDArray[np.float32],
    noise: FrameNoise,
    reach: int | None = None,
) -> Tensor:
    """Return the latents (B, C, h, w) that follow when B rollouts of one age take `action` (B, A).

    `noise` is that of the new frame. Without `reach`, each frame attends to all earlier frames of
    the window. With it, the network computes all frames of the state, and each attends to the last
    `reach` frames, itself included.
    """
    sampler, length = model.sampler, int(state.lengths[0])
    looked_at = length if reach else min(length, model.window - 1)
    known = sampler.noisy_history(state.latents[:, -looked_at:], noise.earlier(1))
    taken = torch.from_numpy(action).to(known)
    actions = torch.cat([state.actions[:, -looked_at:], taken[:, None]], dim=1)
    solver, frames = make_solver(model.schedule, sampler.cfg), actions.shape[1]
    newest = noise.normal(FIRST_DRAW, tuple(state.condition.shape[1:])).to(known)
    for index, level in enumerate(solver.levels):
        levels = torch.full(actions.shape[:2], sampler.history_level, device=known.device)
        levels[:, -1] = level
        window = torch.cat([known, newest[:, None]], dim=1)
        branches = []
        for with_action in (True, False):
            mask = torch.ones_like(levels, dtype=torch.bool)
            mask[:, -1] = with_action
            keys = model.context_keys(state.context, 1, frames, slice(frames))
            given = model.conditioning(state.condition, actions, mask, keys)
            branches.append(model.velocity(window, levels, given, FullWindow(frames, reach)))
        velocity = _guided(sampler.cfg, branches, reach or frames)
        newest = solver.step(index, newest, velocity[:, -1], None)
    return newest


def _guided(cfg: SamplerConfig, branches: list[Tensor], frames: int) -> Tensor:
    """Return the guided velocity (B, T, C, h, w); the rescale looks at the newest `frames`.

    Source: Vid2World equation of causal action guidance; Lin et al. 2024, section 3.4.
    """
    conditional, unconditional = branches
    # v = v_u + s (v_c - v_u), then a share of the spread of v_c
    guided = unconditional + cfg.guidance_scale * (conditional - unconditional)
    spread, found = (v[:, -frames:].std((1, 2, 3, 4), keepdim=True) for v in (conditional, guided))
    return guided * (cfg.guidance_rescale * spread / found + 1 - cfg.guidance_rescale)
