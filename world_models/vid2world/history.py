"""What of the past a next frame looks at, and how much of it is done again: one step of a rollout.

`window` and `rolling` are two meanings of the past, `frozen` an approximation of the first; see
`v2w_gym.configs.model.SamplerConfig.history`.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from v2w_gym.configs.model import SamplerConfig, UNetConfig
from v2w_gym.configs.names import lookup
from v2w_gym.world_models.base import FrameNoise, RolloutState, step_in_groups
from v2w_gym.world_models.vid2world.networks import Networks
from v2w_gym.world_models.vid2world.next_frame import (
    commit,
    draw_after_memory,
    draw_after_window,
    recall,
    remember,
)
from v2w_gym.world_models.vid2world.temporal import Past

HISTORIES: Mapping[str, tuple[str, ...]] = {
    "window": ("per_frame", "pooled"),
    "rolling": ("per_frame",),
    "frozen": ("pooled",),
}
"""How the history is treated -> the norms it is for."""


def check_history(sampler: SamplerConfig, unet: UNetConfig) -> None:
    """Refuse a way to treat the history that a network does not allow.

    Raises:
        ValueError: Unknown, or not for this network.
    """
    norms = lookup(HISTORIES, sampler.history, "sampler.history")
    fits = unet.temporal_norm in norms and unet.causal and not sampler.own_context
    if sampler.history != "window" and not fits:
        raise ValueError(
            "expected sampler.history 'window', which is exact for any model, found "
            f"{sampler.history!r}: it is for causal networks with {' and '.join(norms)} norms and "
            f"one context for both branches, and this one has {unet.temporal_norm} norms, "
            f"causal={str(unet.causal).lower()} and own_context={str(sampler.own_context).lower()}"
        )


def step_after_window(
    model: Networks, state: RolloutState, actions: Tensor, noise: FrameNoise
) -> RolloutState:
    """Take a step with rollouts of one age; the whole window passes in every denoising step."""
    seen = look_back(model, state, noise.earlier(1))
    latent = draw_after_window(model, seen, actions, noise)
    told = replace(state, condition=seen.condition, context=seen.context)
    return told.followed(latent, actions)


def step_after_memory(
    model: Networks, state: RolloutState, actions: Tensor, noise: FrameNoise
) -> RolloutState:
    """Take a step; only the newest frame passes in every denoising step."""
    past = recall(model, state.memory, state.lengths)
    latent = draw_after_memory(model, state, past, actions, noise)
    return remembering(model, state.followed(latent, actions), noise, past)


def remembering(
    model: Networks, state: RolloutState, noise: FrameNoise, past: Past | None = None
) -> RolloutState:
    """Bring the memory up to the newest frame, whose `noise` this is.

    One more frame joins it where that is exact. Where the window has slid, or norms are pooled,
    the frames in it are remembered afresh.

    Args:
        model: The networks.
        state: The rollouts, with the memory of the frames before; none at the start.
        noise: Of the newest frame.
        past: That memory made ready, if it is at hand.
    """
    ages: list[int] = state.lengths.tolist()
    rolling = model.cfg.sampler.history == "rolling"
    can_join = model.is_per_frame and bool(state.memory)
    joins = [can_join and (rolling or age < model.window) for age in ages]

    def refresh(rows: list[int]) -> RolloutState:
        part, newest = state.select(rows), noise.select(rows)
        if joins[rows[0]]:
            known = past if part is state else None
            known = known or recall(model, part.memory, part.lengths - 1)
            return replace(part, memory=commit(model, part, known, newest))
        seen = look_back(model, part, newest)
        memory = remember(model, seen, newest)
        return replace(part, condition=seen.condition, context=seen.context, memory=memory)

    return step_in_groups([0 if joins[row] else age for row, age in enumerate(ages)], refresh)


def look_back(model: Networks, state: RolloutState, noise: FrameNoise) -> RolloutState:
    """Return rollouts of one age as the next frame sees them: with just the frames it looks at.

    A window that is full has slid by one frame. `noise` is the newest frame's.
    """
    length = int(state.lengths[0])
    seen = min(length, model.window - 1)
    latents, actions = state.latents[:, -seen:], state.actions[:, -seen:]
    if length < model.window:
        return replace(state, latents=latents, actions=actions)
    kept, condition, context = latents, state.condition, state.context
    if model.cfg.sampler.reencode:
        pictures = model.seen(kept.flatten(0, 1))
        latents = model.encode(pictures.unflatten(0, kept.shape[:2]), noise)
    if model.cfg.condition_frame == "oldest":
        condition = latents[:, 0]
        context = model.read_context(model.seen(kept[:, 0]), condition)
    return replace(state, latents=latents, actions=actions, condition=condition, context=context)
