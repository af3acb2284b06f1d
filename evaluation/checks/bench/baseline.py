"""The baseline: the next frame by its definition, with nothing that makes it fast.

The whole window passes in every denoising step, one guidance branch after the other. Weights, the
layers over a whole window, schedule and noise are shared with `Vid2World.step`; the rest is not.
Speed is measured against this, and steps must be equal to it.
"""

import torch
from torch import Tensor

from v2w_gym.world_models.sampler import FIRST_DRAW
from v2w_gym.world_models.solvers import make_solver
from v2w_gym.world_models.state import FrameNoise, RolloutState
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.temporal import FullWindow


@torch.inference_mode()
def naive_next(
    model: Vid2World,
    state: RolloutState,
    action: Tensor,
    noise: FrameNoise,
    reach: int | None = None,
) -> Tensor:
    """Return the latent (B, C, h, w) that follows when `action` (B, A) is taken.

    Args:
        model: Weights, schedule and sampler.
        state: Rollouts of one age.
        action: What leads to the new frame.
        noise: Of the new frame.
        reach: None for a window, in which each frame attends to all before it. A number lets all
            frames of the state pass, each attending to so many, its own included.
    """
    sampler, length = model.sampler, int(state.lengths[0])
    looked_at = length if reach else min(length, model.window - 1)
    known = sampler.noisy_history(state.latents[:, -looked_at:], noise.earlier(1))
    actions = torch.cat([state.actions[:, -looked_at:], action[:, None].to(known)], dim=1)
    solver = make_solver(model.schedule, sampler.cfg)
    newest = noise.normal(FIRST_DRAW, tuple(state.condition.shape[1:])).to(known)
    for index, level in enumerate(solver.levels):
        levels = torch.full(actions.shape[:2], sampler.history_level, device=known.device)
        levels[:, -1] = level
        window = torch.cat([known, newest[:, None]], dim=1)
        velocity = _guided(model, state, window, levels, actions, reach)
        newest = solver.step(index, newest, velocity[:, -1], None)
    return newest


def _guided(
    model: Vid2World,
    state: RolloutState,
    window: Tensor,
    levels: Tensor,
    actions: Tensor,
    reach: int | None,
) -> Tensor:
    """Return the guided velocity (B, T, C, h, w); the rescale looks at as many frames as a frame.

    Source: Vid2World equation of causal action guidance; Lin et al. 2024, section 3.4.
    """
    cfg, frames = model.cfg.sampler, window.shape[1]
    branches = []
    for with_action in (True, False):
        mask = torch.ones_like(levels, dtype=torch.bool)
        mask[:, -1] = with_action
        keys = model.context_keys(state.context, 1, frames, slice(frames))
        conditioning = model.conditioning(state.condition, actions, mask, keys)
        branches.append(model.velocity(window, levels, conditioning, FullWindow(frames, reach)))
    conditional, unconditional = branches
    # v = v_u + s (v_c - v_u), then a share of the spread of v_c
    guided = unconditional + cfg.guidance_scale * (conditional - unconditional)
    seen = slice(-(reach or frames), None)
    spread, found = (v[:, seen].std((1, 2, 3, 4), keepdim=True) for v in (conditional, guided))
    return guided * (cfg.guidance_rescale * spread / found + 1 - cfg.guidance_rescale)
