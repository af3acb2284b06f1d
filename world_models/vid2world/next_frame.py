"""One step of a rollout: sample the next frame, and keep the KV cache up to date.

`SamplerConfig.history` decides which frames the next one depends on, and which passes a step needs:

- `window`: the last frames, as in one pass over them. With per-frame norms a step needs decode
  steps and a cache, which is prefilled again when the window slides. With pooled norms, every
  denoising step passes the full window.
- `rolling`: the cache, which reaches back further than the window. A step needs decode steps, and
  evicts the oldest frame. For per-frame norms only.
- `frozen`: an approximation of `window` for pooled norms. A step needs a prefill and decode steps,
  in which the norm statistics of the history stay frozen.

Source: Vid2World section 4.2 and algorithm 2 for the sampling itself.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from v2w_gym.configs.model import UNetConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.sampler import Denoiser, Network
from v2w_gym.world_models.state import FrameNoise, RolloutState, step_in_groups
from v2w_gym.world_models.vid2world.kv_cache import CacheWriter, KVCache, PreparedCache, sums
from v2w_gym.world_models.vid2world.networks import Networks
from v2w_gym.world_models.vid2world.temporal import FullWindow
from v2w_gym.world_models.vid2world.unet import Conditioning, DecodeInputs

HISTORIES: Mapping[str, tuple[str, ...]] = {
    "window": ("per_frame", "pooled"),
    "rolling": ("per_frame",),
    "frozen": ("pooled",),
}
"""`SamplerConfig.history` -> the temporal norms that support it."""


def check_history(sampler: SamplerConfig, unet: UNetConfig) -> None:
    """Check that a network supports the history of a sampler.

    Raises:
        ValueError: A history that is unknown, or that the network does not support.
    """
    norms = lookup(HISTORIES, sampler.history, "sampler.history")
    fits = unet.temporal_norm in norms and unet.causal and not sampler.own_context
    if sampler.history != "window" and not fits:
        raise ValueError(
            "expected sampler.history 'window', which is exact for any model, found "
            f"{sampler.history!r}, which needs a causal network with {' and '.join(norms)} norms "
            f"and one context for both branches; this one has {unet.temporal_norm} norms, "
            f"causal={str(unet.causal).lower()} and own_context={str(sampler.own_context).lower()}"
        )


def needs_cache(sampler: SamplerConfig, unet: UNetConfig) -> bool:
    """Whether steps decode one frame with a cache, and not the full window each time."""
    exact = unet.temporal_norm == "per_frame" and unet.causal and not sampler.own_context
    return exact or sampler.history == "frozen"


def step_full_window(
    model: Networks, state: RolloutState, actions: Tensor, noise: FrameNoise
) -> RolloutState:
    """Take a step with rollouts of one age; each denoising step passes the full window."""
    in_window = slide_window(model, state, noise.earlier(1))
    latent = sample_full_window(model, in_window, actions, noise)
    return replace(state, condition=in_window.condition, context=in_window.context).followed(
        latent, actions
    )


def step_after_cache(
    model: Networks, state: RolloutState, actions: Tensor, noise: FrameNoise
) -> RolloutState:
    """Take a step with rollouts of any age; each denoising step passes the newest frame alone."""
    cache = _prepare(model, state, state.lengths)
    denoise = _decode_denoiser(model, state, cache, actions)
    latent = model.sampler.next_frame(denoise, state.condition, noise)
    return update_cache(model, state.followed(latent, actions), noise, cache)


def sample_full_window(
    model: Networks, in_window: RolloutState, actions: Tensor, noise: FrameNoise
) -> Tensor:
    """Sample the latent (B, C, h, w) that follows a window when `actions` (B, A) are taken.

    Args:
        model: The networks.
        in_window: Rollouts with just the frames of the window; see `slide_window`.
        actions: The actions that lead to the new frame.
        noise: Noise of the new frame.
    """
    sampler = model.sampler
    history = sampler.noisy_history(in_window.latents, noise.earlier(1))
    network = window_network(
        model, in_window, torch.cat([in_window.actions, actions[:, None]], dim=1)
    )
    denoise = sampler.window_denoiser(network, history)
    return sampler.next_frame(denoise, in_window.condition, noise)


def window_network(
    model: Networks, in_window: RolloutState, actions: Tensor, window: FullWindow | None = None
) -> Network:
    """Return the network over full windows, with their conditioning.

    Args:
        model: The networks.
        in_window: Rollouts with the conditioning frame and context.
        actions: (B, T, A) that led to each frame.
        window: Access to other frames; None for all earlier ones.
    """
    frames = actions.shape[1]

    def network(noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
        branches = len(mask) // len(noisy)
        keys = model.context_keys(in_window.context, branches, frames, slice(frames))
        repeated = actions.repeat(branches, 1, 1)
        conditioning = model.conditioning(in_window.condition, repeated, mask, keys)
        return model.velocity(noisy, levels.repeat(branches, 1), conditioning, window)

    return network


def update_cache(
    model: Networks, state: RolloutState, noise: FrameNoise, cache: PreparedCache | None = None
) -> RolloutState:
    """Return rollouts whose cache includes the newest frame.

    The newest frame is appended if that is exact. Otherwise the window has slid or norms are
    pooled, and the cache is prefilled again from the frames in the window.

    Args:
        model: The networks.
        state: The rollouts, with the cache of the earlier frames; empty at the start.
        noise: Noise of the newest frame.
        cache: The prepared cache of `state`, if the caller has it.
    """
    ages: list[int] = state.lengths.tolist()
    rolling = model.cfg.sampler.history == "rolling"
    can_append = model.is_per_frame and bool(state.cache)
    appends = [can_append and (rolling or age < model.window) for age in ages]

    def update(rows: list[int]) -> RolloutState:
        part, newest = state.select(rows), noise.select(rows)
        if not appends[rows[0]]:
            in_window = slide_window(model, part, newest)
            filled = prefill(model, in_window, newest)
            return replace(
                part, condition=in_window.condition, context=in_window.context, cache=filled
            )
        earlier = cache if part is state else None
        earlier = earlier or _prepare(model, part, part.lengths - 1)
        entry = _cache_entry(model, part, earlier, newest)
        return replace(part, cache=KVCache(*part.cache).evict().append(entry))

    return step_in_groups([0 if appends[row] else age for row, age in enumerate(ages)], update)


def prefill(model: Networks, in_window: RolloutState, noise: FrameNoise) -> KVCache:
    """Return the cache of T frames from one pass over them; `noise` is the newest frame's."""
    batch, frames = in_window.latents.shape[:2]
    conditioning = model.conditioning(
        in_window.condition,
        in_window.actions,
        torch.ones(batch, frames, dtype=torch.bool, device=in_window.latents.device),
        model.context_keys(in_window.context, 1, frames + 1, slice(frames)),
    )
    writer = CacheWriter(batch)
    noisy, levels = _at_history_level(model, in_window.latents, noise)
    velocity = model.velocity(noisy, levels, conditioning, FullWindow(frames, writer=writer))
    return writer.cache(velocity).padded(model.window - 1)


def slide_window(model: Networks, state: RolloutState, noise: FrameNoise) -> RolloutState:
    """Return rollouts of one age with just the frames that the next frame depends on.

    A full window slides by one frame. As in the published code, it may be encoded again, and its
    oldest frame may become the conditioning frame. `noise` is the newest frame's.
    """
    length = int(state.lengths[0])
    frames = min(length, model.window - 1)
    latents, actions = state.latents[:, -frames:], state.actions[:, -frames:]
    if length < model.window:
        return replace(state, latents=latents, actions=actions)
    kept, condition, context = latents, state.condition, state.context
    if model.cfg.sampler.reencode:
        pictures = model.decode(kept.flatten(0, 1))
        latents = model.encode(pictures.unflatten(0, kept.shape[:2]), noise)
    if model.cfg.condition_frame == "oldest":
        condition = latents[:, 0]
        context = model.read_context(model.decode(kept[:, 0]), condition)
    return replace(state, latents=latents, actions=actions, condition=condition, context=context)


def _prepare(model: Networks, state: RolloutState, lengths: Tensor) -> PreparedCache:
    return KVCache(*state.cache).prepared(lengths, model.unet.temporal_convs)


def _decode_denoiser(
    model: Networks, state: RolloutState, cache: PreparedCache, actions: Tensor
) -> Denoiser:
    """Return a denoiser of the newest frame alone; compute here what all denoising steps share."""
    sampler, unet = model.sampler, model.unet
    branches = 1 if sampler.cfg.guidance_scale == 1 else 2
    conditioning = _newest_conditioning(model, state, actions, branches)
    # The embeddings of all noise levels, as one batch: (steps, G B, 1, C') for each block.
    levels = torch.tensor(sampler.levels, device=actions.device)[:, None, None]
    levels = levels.expand(-1, branches * len(state), 1)
    shifts = unet.shifts(unet.embed(levels, conditioning))
    by_level = {level: tuple(s[i, :, 0] for s in shifts) for i, level in enumerate(sampler.levels)}
    frame, context = conditioning.frame, conditioning.context

    def denoise(newest: Tensor, level: int) -> Tensor:
        noisy = newest[:, None].to(frame)
        velocity = model.decode_velocity(  # (G B, C, h, w)
            DecodeInputs(noisy, frame, by_level[level], context, cache)
        )
        if branches == 1:
            return velocity
        conditional, unconditional = velocity.chunk(2)
        guided = sampler.guide(conditional, unconditional)
        # std(conditional) / std(guided) over the whole window, as in `Sampler.guided_velocity`.
        ratio = _squared_deviation(conditional, cache) / _squared_deviation(guided, cache)
        return sampler.rescale(guided, ratio.sqrt()[:, None, None, None])

    return denoise


def _squared_deviation(newest: Tensor, cache: PreparedCache) -> Tensor:
    """Return sum (v - mean v)^2 = sum v^2 - (sum v)^2 / n over a whole window of velocities, (B,).

    Both guidance branches share the velocities of earlier frames, whose sums are cached.
    """
    total = sums(newest.flatten(1)) + cache.velocity_sums
    count = newest[0].numel() * (cache.lengths + 1)
    return total[:, 1] - total[:, 0].square() / count


def _cache_entry(
    model: Networks, state: RolloutState, cache: PreparedCache, noise: FrameNoise
) -> KVCache:
    """Return the cache entry of the newest frame, from a decode step at the history noise level.

    `noise` is the newest frame's; `cache` holds the earlier frames.
    """
    conditioning = _newest_conditioning(model, state, state.actions[:, -1], 1)
    noisy, levels = _at_history_level(model, state.latents[:, -1:], noise)
    shifts = tuple(model.unet.shifts(model.unet.embed(levels, conditioning).flatten(0, 1)))
    frame, context = conditioning.frame, conditioning.context
    inputs = DecodeInputs(noisy.to(frame), frame, shifts, context, cache)
    velocity, writer = model.unet.decode_step(inputs)
    return writer.cache(velocity)


def _newest_conditioning(
    model: Networks, state: RolloutState, actions: Tensor, branches: int
) -> Conditioning:
    """Return the newest frame's conditioning on actions (B, A); a second branch masks them."""
    earlier = min(int(state.lengths[0]), model.window - 1)
    mask = torch.ones(len(state), 1, dtype=torch.bool, device=actions.device)
    return model.conditioning(
        state.condition,
        actions[:, None].repeat(branches, 1, 1),
        torch.cat([mask, ~mask])[: branches * len(state)],
        model.context_keys(state.context, branches, earlier + 1, slice(earlier, earlier + 1)),
        begins=False,
    )


def _at_history_level(model: Networks, latents: Tensor, noise: FrameNoise) -> tuple[Tensor, Tensor]:
    """Return frames (B, T, C, h, w) at the history noise level, and the level as (B, T)."""
    levels = torch.full(latents.shape[:2], model.sampler.history_level, device=latents.device)
    return model.sampler.noisy_history(latents, noise), levels
