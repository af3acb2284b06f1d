"""Draw the latent of the next frame, with no more work than the network's norms allow.

After a window: every denoising step runs the network over all its frames. After a memory: every
step runs it over the newest frame alone, and what that frame leaves behind is added once it is
known. With norms per frame both give the same, to rounding.
"""

import torch
from torch import Tensor

from v2w_gym.world_models.base import FrameNoise, RolloutState
from v2w_gym.world_models.nested import Nested
from v2w_gym.world_models.sampler import (
    Denoiser,
    Network,
    guide,
    history_level,
    noisy_history,
    rescale,
    sample_next_frame,
    window_denoiser,
)
from v2w_gym.world_models.solvers import make_solver
from v2w_gym.world_models.vid2world.conditioning import Conditioning
from v2w_gym.world_models.vid2world.networks import Networks
from v2w_gym.world_models.vid2world.passes import Inputs
from v2w_gym.world_models.vid2world.temporal import (
    Memory,
    Notes,
    Past,
    Recording,
    Window,
    moments,
    prepare,
)


def draw_after_window(
    model: Networks, seen: RolloutState, action: Tensor, noise: FrameNoise
) -> Tensor:
    """Return the latent (B, C, h, w) that follows a window when `action` (B, A) is taken.

    Args:
        model: The networks.
        seen: Just the frames that it looks at, T of T for each rollout.
        action: What leads to the new frame.
        noise: Of the new frame.
    """
    cfg, schedule = model.cfg.sampler, model.schedule
    known = noisy_history(schedule, cfg, seen.latents, noise.earlier(1))
    network = window_network(model, seen, torch.cat([seen.actions, action[:, None]], dim=1))
    denoise = window_denoiser(network, cfg, known, history_level(schedule, cfg))
    return sample_next_frame(denoise, schedule, cfg, seen.condition, noise)


def draw_after_memory(
    model: Networks, state: RolloutState, past: Past, action: Tensor, noise: FrameNoise
) -> Tensor:
    """Return the latent (B, C, h, w) that follows a past; see `draw_after_window`."""
    denoise = _memory_denoiser(model, state, past, action)
    return sample_next_frame(denoise, model.schedule, model.cfg.sampler, state.condition, noise)


def recall(model: Networks, memory: Nested, lengths: Tensor) -> Past:
    """Return a memory of `lengths` (B,) frames, made ready for the passes of the next."""
    return prepare(Memory(*memory), lengths, model.unet.temporal_convs)


def remember(model: Networks, seen: RolloutState, noise: FrameNoise) -> Memory:
    """Return the memory of T frames, of which the newest has `noise`, from one pass over them."""
    batch, frames = seen.latents.shape[:2]
    told = model.told(
        seen.condition,
        seen.actions,
        torch.ones(batch, frames, dtype=torch.bool, device=seen.latents.device),
        model.context_keys(seen.context, 1, frames + 1, slice(frames)),
    )
    recording = Recording(Window(frames), Notes(batch))
    noisy, levels = _at_history_level(model, seen.latents, noise)
    velocity = model.velocity(noisy, levels, told, recording)
    return recording.notes.memory(velocity).fitted(model.window - 1)


def commit(model: Networks, state: RolloutState, past: Past, noise: FrameNoise) -> Memory:
    """Return the memory once the newest frame, whose `noise` this is, has joined it.

    `state.memory` and `past` are still those of the frames before. Norms must be per frame.
    """
    told = _told_newest(model, state, state.actions[:, -1], 1)
    noisy, levels = _at_history_level(model, state.latents[:, -1:], noise)
    shifts = model.unet.shifts(model.unet.embed(levels, told).flatten(0, 1))
    inputs = Inputs(noisy.to(told.frame), told.frame, tuple(shifts), told.context, past)
    return Memory(*state.memory).extended(model.newest.memory(inputs))


def window_network(
    model: Networks, seen: RolloutState, actions: Tensor, window: Window | None = None
) -> Network:
    """Return the network over whole windows, told what happened in them.

    Args:
        model: The networks.
        seen: What conditions them.
        actions: (B, T, A) that led to each frame.
        window: How its frames see each other; None for all that came before.
    """
    frames = actions.shape[1]

    def network(noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
        branches = len(mask) // len(noisy)
        keys = model.context_keys(seen.context, branches, frames, slice(frames))
        told = model.told(seen.condition, actions.repeat(branches, 1, 1), mask, keys)
        return model.velocity(noisy, levels.repeat(branches, 1), told, window)

    return network


def _memory_denoiser(model: Networks, state: RolloutState, past: Past, action: Tensor) -> Denoiser:
    """Denoise the newest frame alone; what does not change from step to step is done once."""
    cfg, unet = model.cfg.sampler, model.unet
    branches = 1 if cfg.guidance_scale == 1 else 2
    told = _told_newest(model, state, action, branches)
    steps = list(make_solver(model.schedule, cfg).levels)
    levels = torch.tensor(steps, device=action.device)[:, None, None]
    levels = levels.expand(-1, branches * len(state), 1)
    shifts = unet.shifts(unet.embed(levels, told))  # (steps, G B, 1, C') each
    by_level = {level: tuple(s[i, :, 0] for s in shifts) for i, level in enumerate(steps)}

    def denoise(newest: Tensor, level: int) -> Tensor:
        noisy = newest[:, None].to(told.frame)
        inputs = Inputs(noisy, told.frame, by_level[level], told.context, past)
        velocity = model.newest.velocity(inputs)[:, 0].float()  # (G B, C, h, w)
        if branches == 1:
            return velocity
        with_action, without = velocity.chunk(2)
        guided = guide(cfg, with_action, without)
        spread = _energy(with_action, past) / _energy(guided, past)
        return rescale(cfg, guided, spread.sqrt()[:, None, None, None])

    return denoise


def _energy(newest: Tensor, past: Past) -> Tensor:
    """Return the squared deviation from the mean, (B,), of a whole window of velocities.

    Of the known frames the moments are enough: their velocities are the same in both branches.
    """
    total = moments(newest.flatten(1)) + past.velocity
    count = newest[0].numel() * (past.known + 1)
    return total[:, 1] - total[:, 0].square() / count


def _told_newest(
    model: Networks, state: RolloutState, action: Tensor, branches: int
) -> Conditioning:
    """Tell one branch, or a second that is not told the action (B, A), about the newest frame."""
    known = min(int(state.lengths[0]), model.window - 1)
    mask = torch.ones(len(state), 1, dtype=torch.bool, device=action.device)
    return model.told(
        state.condition,
        action[:, None].repeat(branches, 1, 1),
        torch.cat([mask, ~mask])[: branches * len(state)],
        model.context_keys(state.context, branches, known + 1, slice(known, known + 1)),
        begins=False,
    )


def _at_history_level(model: Networks, latents: Tensor, noise: FrameNoise) -> tuple[Tensor, Tensor]:
    """Return known frames (B, T, C, h, w) at the level they are told, and those levels (B, T)."""
    cfg, schedule = model.cfg.sampler, model.schedule
    noisy = noisy_history(schedule, cfg, latents, noise)
    level = history_level(schedule, cfg)
    return noisy, torch.full(latents.shape[:2], level, device=latents.device)
