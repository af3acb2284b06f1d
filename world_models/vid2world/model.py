"""Vid2World as a world model: encode a frame, imagine the next latent, decode it."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.loader import from_mapping
from configs.lookup import lookup
from configs.model import SamplerConfig, WorldModelConfig
from configs.robots import ROBOTS
from world_models.base import FrameNoise, RolloutState, begin_state, step_in_groups
from world_models.checkpoint import check_kind, load_checkpoint, save_checkpoint
from world_models.diffusion import NoiseSchedule
from world_models.frames import (
    check_clip,
    check_context,
    from_canvas,
    to_canvas,
    to_tensor,
    to_uint8,
)
from world_models.nested import Nested
from world_models.sampler import ENCODE_DRAW, MASK_DRAW, check_sampler, each_frame, sample_clip
from world_models.vid2world.autoencoder import Autoencoder
from world_models.vid2world.conditioning import Conditioning, Context, ContextKeys
from world_models.vid2world.context import FrameContext
from world_models.vid2world.history import (
    check_history,
    remembering,
    step_after_memory,
    step_after_window,
)
from world_models.vid2world.kl_autoencoder import KLAutoencoder
from world_models.vid2world.next_frame import window_network
from world_models.vid2world.passes import NewestFrame
from world_models.vid2world.quirks import tokens_by_frame
from world_models.vid2world.timeline import Timeline
from world_models.vid2world.unet import UNet

KIND = "vid2world"
HALVES = {torch.float16, torch.bfloat16}


class Vid2World(nn.Module):
    """A causal, action-conditioned latent video diffusion model of one robot's camera.

    Implements `WorldModel`. Source: Vid2World, arXiv 2505.14357.
    """

    def __init__(self, cfg: WorldModelConfig) -> None:
        """Build with fresh weights.

        Raises:
            ValueError: Unknown robot, or a setting that is not among its choices.
        """
        super().__init__()
        self.cfg = cfg
        self.robot = lookup(ROBOTS, cfg.robot, "robot")
        self.window = cfg.window
        self.context_frames = cfg.context_frames
        self.card: Mapping[str, Any] = {}
        self.autoencoder = (
            KLAutoencoder(cfg.kl_autoencoder)
            if cfg.kl_autoencoder
            else Autoencoder(cfg.autoencoder)
        )
        self.context = FrameContext(cfg.context) if cfg.context else None
        channels = (cfg.kl_autoencoder or cfg.autoencoder).latent_channels
        self.unet = UNet(cfg.unet, channels, self.robot.action_size)
        self.newest = NewestFrame(self.unet)
        self.schedule = NoiseSchedule(cfg.diffusion)

    @torch.inference_mode()
    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.start`."""
        frames, actions = check_context(frames, actions, self.robot, self.window)
        state = self._begin(frames, actions, noise)
        return remembering(self, state, noise) if self._has_memory else state

    @torch.inference_mode()
    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.step`.

        Rollouts of any age share the work where norms are per frame; where they are pooled, those
        of one age do.

        Raises:
            ValueError: As there; or a state of another window, or without the memory that this
                sampler needs.
        """
        taken = torch.from_numpy(self.robot.check_actions(actions)).to(state.actions)
        found = state.latents.shape[1], bool(state.memory)
        if found != (self.window, self._has_memory):
            raise ValueError(
                f"expected a state with a window of {self.window} and memory={self._has_memory}, "
                f"as this model's start() makes them, found {found[0]} and {found[1]}; a rollout "
                "goes on with the window and sampler.history that it began with"
            )
        step = step_after_memory if self._has_memory else step_after_window
        any_age = self._has_memory and self.is_per_frame
        ages = [0] * len(state) if any_age else state.lengths.tolist()
        return step_in_groups(
            ages, lambda rows: step(self, state.select(rows), taken[rows], noise.select(rows))
        )

    @torch.inference_mode()
    def render(self, state: RolloutState) -> NDArray[np.uint8]:
        """See `WorldModel.render`."""
        return self._frames(state.latents[:, -1])

    @torch.inference_mode()
    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        """See `WorldModel.imagine_clip`."""
        frames, actions = check_clip(frames, actions, self.robot, self.window)
        none = np.zeros((len(frames), 0, self.robot.action_size), np.float32)
        length, keep = actions.shape[1] + 1, self.cfg.sampler.clip_keep
        state = self._begin(frames[:, None], none, noise.earlier(length - 1))
        told = F.pad(torch.from_numpy(actions), (0, 0, 1, 0), value=torch.nan).to(state.actions)
        uniform = torch.special.ndtr(each_frame(noise, MASK_DRAW, length, ()))
        hidden = (uniform < keep).to(told.device)  # (B, T)
        network = window_network(self, state, told)
        latents = sample_clip(
            network, self.schedule, self.cfg.sampler, hidden, state.condition, noise
        )
        return self._frames(latents.flatten(0, 1)).reshape(len(frames), length, *frames.shape[1:])

    def velocity(
        self,
        noisy: Tensor,
        noise_levels: Tensor,
        told: Conditioning,
        time: Timeline | None = None,
    ) -> Tensor:
        """Run the network in its own precision; arguments and result are `UNet.forward`'s.

        Where more rollouts are told than are noisy, (B, T, C, h, w), they are branches of these.
        """
        velocity: Tensor = self.unet(noisy.to(self._precision), noise_levels, told, time)
        return velocity.float()

    def told(
        self,
        condition: Tensor,
        actions: Tensor,
        action_mask: Tensor,
        context: tuple[ContextKeys, ...] = (),
        *,
        begins: bool = True,
    ) -> Conditioning:
        """Gather what the network is told about windows of T frames.

        Args:
            condition: (B, C, h, w) latent of the conditioning frame.
            actions: (G B, T, A) that led to each frame, in the robot's units; NaN where unknown.
            action_mask: (G B, T) bool; False hides the action.
            context: See `context_keys`.
            begins: Whether the first of the frames is the first of a window.
        """
        known = action_mask & actions.isfinite().all(-1)
        prepared = self.normalised(actions.nan_to_num())
        if begins and self.cfg.first_action == "zeros":
            prepared = torch.cat([torch.zeros_like(prepared[:, :1]), prepared[:, 1:]], dim=1)
            known = torch.cat([action_mask[:, :1], known[:, 1:]], dim=1)
        precision = self._precision
        rate = torch.full((len(actions),), self.cfg.rate, device=condition.device)
        frame = condition[:, None].to(precision)
        return Conditioning(frame, prepared.to(precision), known, rate, context)

    def context_keys(
        self, context: Nested, branches: int, window: int, frames: slice
    ) -> tuple[ContextKeys, ...]:
        """Return what cross-attention reads in `frames` of a window, for G B rollouts.

        Args:
            context: `RolloutState.context`, of B rollouts.
            branches: G; where only one set is in the context, all branches read it.
            window: Frames of the window, which in the released models decides who reads what.
            frames: Those that are asked for.
        """

        def rows(kept: Tensor) -> Tensor:  # (B, G, M, C) -> (G B, M, C)
            kept = kept.expand(-1, branches, -1, -1) if kept.shape[1] == 1 else kept[:, :branches]
            return kept.transpose(0, 1).flatten(0, 1)

        def dealt(kept: Tensor) -> Tensor:  # (B, G, M, C) -> (G B F, M / F, C)
            tokens = tokens_by_frame(rows(kept), 1 if self.is_per_frame else window)
            return (tokens[:, frames] if tokens.shape[1] > 1 else tokens).flatten(0, 1)

        return tuple(
            ContextKeys(rows(keys[0]), rows(keys[1]), dealt(keys[2]), dealt(keys[3]))
            for keys in context
        )

    def normalised(self, actions: Tensor) -> Tensor:
        """Bring actions (..., A) from the robot's bounds to [-1, 1], except `raw_fields`.

        A value the robot cannot move becomes 0.
        """
        low, high = torch.from_numpy(self.robot.low), torch.from_numpy(self.robot.high)
        span = (high - low).to(actions)
        centred = 2 * (actions - low.to(actions)) - span
        unit = centred / torch.where(span > 0, span, torch.ones_like(span))
        for name in self.cfg.raw_fields:
            raw = self.robot.slices[name]
            unit[..., raw] = actions[..., raw]
        return unit

    def with_sampler(self, sampler: SamplerConfig) -> "Vid2World":
        """Return this model with another sampler; the weights are shared.

        Raises:
            ValueError: A setting out of range, or one that is for published checkpoints only.
        """
        check_sampler(self.schedule, sampler)
        if sampler.sample_latents and not isinstance(self.autoencoder, KLAutoencoder):
            raise ValueError(
                "expected sample_latents=false: this model's autoencoder gives latents without "
                "spread; preset 'reference' is for published checkpoints"
            )
        check_history(sampler.history, self.cfg.unet.temporal_norm, own_context=sampler.own_context)
        return self._with(replace(self.cfg, sampler=sampler))

    def with_window(self, window: int, context_frames: int) -> "Vid2World":
        """Return this model with another window and start; the weights, shared, depend on neither.

        Raises:
            ValueError: A start that leaves no room in the window.
        """
        if not 1 <= context_frames < window:
            raise ValueError(
                f"expected 1 <= context_frames < window, found context_frames={context_frames} and "
                f"window={window}"
            )
        return self._with(replace(self.cfg, window=window, context_frames=context_frames))

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Write weights in their present precision, and a card that says where they come from."""
        save_checkpoint(path, self.state_dict(), self.make_card(provenance))

    def make_card(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Return what says what these weights are: JSON values."""
        return {
            "kind": KIND,
            "robot": self.robot.name,
            "config": asdict(self.cfg),
            "parameters": sum(p.numel() for p in self.parameters()),
            "provenance": dict(provenance),
        }

    @property
    def _precision(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    @property
    def is_per_frame(self) -> bool:
        """Whether each frame's norms are its own, so that what is known of it stays true."""
        return self.cfg.unet.temporal_norm == "per_frame"

    @property
    def _has_memory(self) -> bool:
        """Whether the history is remembered, not computed again in every denoising step."""
        if self.cfg.sampler.history == "frozen":
            return True
        return self.is_per_frame and not self.cfg.sampler.own_context

    def _with(self, cfg: WorldModelConfig) -> "Vid2World":
        """Return this model with other settings that no weight depends on; its card follows."""
        other = copy.copy(self)
        other.cfg, other.window, other.context_frames = cfg, cfg.window, cfg.context_frames
        if self.card and cfg != from_mapping(WorldModelConfig, self.card["config"], "the card"):
            other.card = {**self.card, "config": asdict(cfg)}
        return other

    def _begin(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        pictures = self._pictures(frames)  # (B, T, 3, H, W) of the canvas
        latents = self.encode(pictures, noise)
        state = begin_state(latents, torch.from_numpy(actions).to(latents), self.window)
        return replace(state, context=self.read_context(pictures[:, 0], latents[:, 0]))

    def _pictures(self, frames: NDArray[np.uint8]) -> Tensor:
        """Turn camera frames (B, T, H, W, 3) into pictures (B, T, 3, H', W') of the model's."""
        pictures = to_tensor(frames).flatten(0, 1).to(self.unet.conv_in.weight.device)
        if self.cfg.geometry is not None:
            pictures = to_canvas(pictures, self.cfg.geometry)
        return pictures.unflatten(0, frames.shape[:2])

    def _frames(self, latents: Tensor) -> NDArray[np.uint8]:
        """Decode latents (N, C, h, w) to camera frames (N, H, W, 3)."""
        pictures = self.seen(latents)
        if self.cfg.geometry is not None:
            pictures = from_canvas(pictures, self.cfg.geometry, self.robot.frame_size)
        return to_uint8(pictures)

    def seen(self, latents: Tensor) -> Tensor:
        """Decode latents (N, C, h, w) to pictures (N, 3, H', W') as they are shown, in [-1, 1]."""
        return self.autoencoder.decode(latents).clamp(-1, 1)

    def encode(self, pictures: Tensor, noise: FrameNoise) -> Tensor:
        """Encode pictures (B, T, 3, H', W'), the newest of which has `noise`: (B, T, C, h, w)."""
        flat = pictures.flatten(0, 1)
        if not (self.cfg.sampler.sample_latents and isinstance(self.autoencoder, KLAutoencoder)):
            return self.autoencoder.encode(flat).unflatten(0, pictures.shape[:2])
        shape = self.autoencoder.latent_shape(flat)
        draws = each_frame(noise, ENCODE_DRAW, pictures.shape[1], shape)  # (B, T, C, h, w)
        latents = self.autoencoder.encode(flat, draws.flatten(0, 1).to(flat))
        return latents.unflatten(0, pictures.shape[:2])

    def read_context(self, pictures: Tensor, latents: Tensor) -> tuple[ContextKeys, ...]:
        """Return what each cross-attention reads of a conditioning frame: (B, G, M, C) each.

        Args:
            pictures: (B, 3, H', W') the frame.
            latents: (B, C, h, w) the frame, encoded.
        """
        if self.context is None:
            return ()
        tokens = [self.context(pictures)]
        if self.cfg.sampler.own_context:  # not clamped: nobody has seen this copy
            tokens.append(self.context(self.autoencoder.decode(latents)))
        text = self.context.text.expand(len(pictures), -1, -1)
        branches = [
            self.unet.context_keys(Context(text.to(self._precision), image.to(self._precision)))
            for image in tokens
        ]
        return tuple(
            ContextKeys(*(torch.stack(parts, dim=1) for parts in zip(*keys, strict=True)))
            for keys in zip(*branches, strict=True)
        )


def load_vid2world(path: Path, device: str = "cpu") -> Vid2World:
    """Rebuild the model that `Vid2World.save` wrote, ready for inference on `device`.

    Single-precision weights stay in the file until they are read. Half precision is a way to store
    weights, except bfloat16 on a GPU: there it is also what they run in.

    Raises:
        FileNotFoundError: Nothing there.
        ValueError: Truncated, of another kind, or with missing, surplus or misshapen weights.
    """
    tensors, card = load_checkpoint(path)
    check_kind(path, card, KIND)
    cfg = from_mapping(WorldModelConfig, card["config"], str(path))
    halves = {torch.float16} if torch.device(device).type == "cuda" else HALVES
    tensors = {k: v.float() if v.dtype in halves else v for k, v in tensors.items()}
    with torch.device("meta"):
        model = Vid2World(cfg)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"expected the weights that the card of {path} describes; {error}"
        ) from error
    model.card = card
    return model.to(device).eval().requires_grad_(False)
