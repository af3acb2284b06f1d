"""The next frame by its definition: the whole window in every denoising step, a branch at a time.

Slow on purpose and independent of what makes `Vid2World.step` fast: it shares the weights, the
layers over a whole window, the schedule and the noise. It is what speed is measured against, and
what steps are checked to be equal to.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from v2w_gym.world_models.base import FrameNoise, RolloutState
from v2w_gym.world_models.nested import Nested
from v2w_gym.world_models.sampler import FIRST_DRAW, history_level, noisy_history
from v2w_gym.world_models.solvers import make_solver
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.temporal import FullWindow


@dataclass(frozen=True)
class History:
    """What B rollouts of L frames have been.

    Attributes:
        latents: (B, L, C, h, w) oldest first, clean.
        actions: (B, L, A): what led to each of them, NaN for the first; once `told`, (B, L + 1, A)
            with what leads to the next frame.
        condition: (B, C, h, w) latent of the conditioning frame.
        context: See `RolloutState.context`.
    """

    latents: Tensor
    actions: Tensor
    condition: Tensor
    context: Nested = ()

    def told(self, action: Tensor) -> "History":
        """Return the history with what is done now, (B, A)."""
        action = action.to(self.actions)[:, None]
        return replace(self, actions=torch.cat([self.actions, action], dim=1))

    def followed(self, latent: Tensor) -> "History":
        """Return the history with the frame (B, C, h, w) that this led to."""
        return replace(self, latents=torch.cat([self.latents, latent[:, None]], dim=1))

    def newest(self, frames: int) -> "History":
        """Return the last frames of a history that is `told`, all where there are fewer."""
        latents, actions = self.latents[:, -frames:], self.actions[:, -frames - 1 :]
        return replace(self, latents=latents, actions=actions)


@torch.inference_mode()
def draw_next(
    model: Vid2World, history: History, noise: FrameNoise, reach: int | None = None
) -> Tensor:
    """Return the latent (B, C, h, w) that follows, `noise` being its own.

    Args:
        model: Weights, schedule and sampler.
        history: All frames that are looked at; without `reach` fewer than the model's window.
        noise: Of the frame that is drawn.
        reach: Each frame attends to this many frames, its own included; None for all before it.
    """
    cfg, schedule = model.cfg.sampler, model.schedule
    known = noisy_history(schedule, cfg, history.latents, noise.earlier(1))
    solver = make_solver(schedule, cfg)
    newest = noise.normal(FIRST_DRAW, tuple(history.condition.shape[1:])).to(known)
    for index, level in enumerate(solver.levels):
        levels = torch.full(history.actions.shape[:2], history_level(schedule, cfg))
        levels[:, -1] = level
        window = torch.cat([known, newest[:, None]], dim=1)
        velocity = _guided(model, history, window, levels.to(known.device), reach)
        newest = solver.step(index, newest, velocity[:, -1], None)
    return newest


def naive_step(
    model: Vid2World, state: RolloutState, action: Tensor, noise: FrameNoise
) -> RolloutState:
    """Do what `Vid2World.step` does with B rollouts of one age; `action` is (B, A)."""
    seen = min(int(state.lengths[0]), model.window - 1)
    history = History(state.latents, state.actions, state.condition, state.context)
    latent = draw_next(model, history.told(action).newest(seen), noise)
    return state.followed(latent, action.to(state.actions))


def _guided(
    model: Vid2World, history: History, window: Tensor, levels: Tensor, reach: int | None
) -> Tensor:
    """Return the guided velocity (B, T, C, h, w); the rescale looks at as many frames as a frame.

    Source: Vid2World equation of causal action guidance; Lin et al. 2024, section 3.4.
    """
    cfg, frames = model.cfg.sampler, window.shape[1]
    branches = []
    for is_told in (True, False):
        mask = torch.ones_like(levels, dtype=torch.bool)
        mask[:, -1] = is_told
        keys = model.context_keys(history.context, 1, frames, slice(frames))
        conditioning = model.conditioning(history.condition, history.actions, mask, keys)
        branches.append(model.velocity(window, levels, conditioning, FullWindow(frames, reach)))
    with_action, without = branches
    guided = without + cfg.guidance_scale * (with_action - without)
    seen = slice(-(reach or frames), None)
    spread, found = (
        velocity[:, seen].std((1, 2, 3, 4), keepdim=True) for velocity in (with_action, guided)
    )
    return guided * (cfg.guidance_rescale * spread / found + 1 - cfg.guidance_rescale)
