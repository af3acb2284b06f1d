"""Vid2World as a world model: encode a frame, imagine the next latent, decode it."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.loader import from_mapping
from configs.lookup import lookup
from configs.model import SamplerConfig, WorldModelConfig
from configs.robots import ROBOTS
from world_models.base import FrameNoise, RolloutState, first_unknown
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
from world_models.sampler import (
    ENCODE_DRAW,
    MASK_DRAW,
    Denoiser,
    check_sampler,
    each_frame,
    sample_clip,
    sample_next_frame,
)
from world_models.vid2world.autoencoder import Autoencoder
from world_models.vid2world.conditioning import Conditioning, Context
from world_models.vid2world.context import FrameContext
from world_models.vid2world.kl_autoencoder import KLAutoencoder
from world_models.vid2world.quirks import tokens_by_frame
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
        self.schedule = NoiseSchedule(cfg.diffusion)

    @torch.inference_mode()
    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.start`."""
        frames, actions = check_context(frames, actions, self.robot, self.window)
        pictures = self._pictures(frames)  # (B, T, 3, H, W) of the canvas
        latents = self._encode(pictures, noise)
        return RolloutState(
            frame=to_tensor(frames[:, -1]),
            condition=latents[:, 0],
            context=self._context_tokens(pictures[:, 0], latents[:, 0]),
            latents=latents,
            actions=first_unknown(torch.from_numpy(actions)).to(latents),
        )

    @torch.inference_mode()
    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.step`."""
        taken = torch.from_numpy(self.robot.check_actions(actions))[:, None].to(state.actions)
        moved = self._slide(state, noise) if state.history >= self.window else state
        told = torch.cat([moved.actions, taken], dim=1)
        denoise = self._denoiser(moved, told)
        latent = sample_next_frame(denoise, self.schedule, self.cfg.sampler, moved.latents, noise)
        remembered = state.latents[:, -moved.history :]
        return replace(
            moved,
            frame=to_tensor(self._frames(latent)),
            latents=torch.cat([remembered, latent[:, None]], dim=1),
            actions=told,
        )

    @torch.inference_mode()
    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        """See `WorldModel.imagine_clip`."""
        frames, actions = check_clip(frames, actions, self.robot, self.window)
        none = np.zeros((len(frames), 0, self.robot.action_size), np.float32)
        length, keep = actions.shape[1] + 1, self.cfg.sampler.clip_keep
        state = self.start(frames[:, None], none, noise.earlier(length - 1))
        told = first_unknown(torch.from_numpy(actions)).to(state.actions)
        uniform = torch.special.ndtr(each_frame(noise, MASK_DRAW, length, ()))
        hidden = (uniform < keep).to(told.device)  # (B, T)
        latents = sample_clip(
            self._denoiser(state, told),
            self.schedule,
            self.cfg.sampler,
            hidden,
            state.condition.shape[1:],
            noise,
        )
        return self._frames(latents.flatten(0, 1)).reshape(len(frames), length, *frames.shape[1:])

    def velocity(self, noisy: Tensor, noise_levels: Tensor, told: Conditioning) -> Tensor:
        """Run the network in its own precision; arguments and result are `UNet.forward`'s."""
        velocity: Tensor = self.unet(noisy.to(self._precision), noise_levels, told)
        return velocity.float()

    def told(
        self,
        condition: Tensor,
        actions: Tensor,
        action_mask: Tensor,
        tokens: Tensor | None = None,
    ) -> Conditioning:
        """Gather what the network is told about windows of T frames.

        Args:
            condition: (B, C, h, w) latent of the conditioning frame.
            actions: (B, T, A) that led to each frame, in the robot's units; NaN where unknown.
            action_mask: (B, T) bool; False hides the action.
            tokens: (B, M, D) image tokens of the conditioning frame, for a model with context.
        """
        known = action_mask & actions.isfinite().all(-1)
        prepared = self.normalised(actions.nan_to_num())
        if self.cfg.first_action == "zeros":
            prepared = torch.cat([torch.zeros_like(prepared[:, :1]), prepared[:, 1:]], dim=1)
            known = torch.cat([action_mask[:, :1], known[:, 1:]], dim=1)
        context, precision = None, self._precision
        if self.context is not None and tokens is not None:
            text = self.context.text.expand(len(tokens), -1, -1)
            image = tokens_by_frame(tokens, actions.shape[1])
            context = Context(text.to(precision), image.to(precision))
        rate = torch.full((len(condition),), self.cfg.rate, device=condition.device)
        frame = condition[:, None].to(precision)
        return Conditioning(frame, prepared.to(precision), known, rate, context)

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
        other = copy.copy(self)
        other.cfg = replace(self.cfg, sampler=sampler)
        return other

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
        other = copy.copy(self)
        other.window, other.context_frames = window, context_frames
        other.cfg = replace(self.cfg, window=window, context_frames=context_frames)
        return other

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

    def _pictures(self, frames: NDArray[np.uint8]) -> Tensor:
        """Turn camera frames (B, T, H, W, 3) into pictures (B, T, 3, H', W') of the model's."""
        pictures = to_tensor(frames).flatten(0, 1).to(self.unet.conv_in.weight.device)
        if self.cfg.geometry is not None:
            pictures = to_canvas(pictures, self.cfg.geometry)
        return pictures.unflatten(0, frames.shape[:2])

    def _frames(self, latents: Tensor) -> NDArray[np.uint8]:
        """Decode latents (N, C, h, w) to camera frames (N, H, W, 3)."""
        pictures = self._seen(latents)
        if self.cfg.geometry is not None:
            pictures = from_canvas(pictures, self.cfg.geometry, self.robot.frame_size)
        return to_uint8(pictures)

    def _seen(self, latents: Tensor) -> Tensor:
        """Decode latents (N, C, h, w) to pictures (N, 3, H', W') as they are shown, in [-1, 1]."""
        return self.autoencoder.decode(latents).clamp(-1, 1)

    def _encode(self, pictures: Tensor, noise: FrameNoise) -> Tensor:
        """Encode pictures (B, T, 3, H', W'), the newest of which has `noise`: (B, T, C, h, w)."""
        flat = pictures.flatten(0, 1)
        if not (self.cfg.sampler.sample_latents and isinstance(self.autoencoder, KLAutoencoder)):
            return self.autoencoder.encode(flat).unflatten(0, pictures.shape[:2])
        shape = self.autoencoder.latent_shape(flat)
        draws = each_frame(noise, ENCODE_DRAW, pictures.shape[1], shape)  # (B, T, C, h, w)
        latents = self.autoencoder.encode(flat, draws.flatten(0, 1).to(flat))
        return latents.unflatten(0, pictures.shape[:2])

    def _context_tokens(self, pictures: Tensor, latents: Tensor) -> Tensor:
        """Return what cross-attention is told of a conditioning frame: (B, G, M, D).

        Args:
            pictures: (B, 3, H', W') the frame.
            latents: (B, C, h, w) the frame, encoded.
        """
        if self.context is None:
            return latents.new_empty(len(latents), 0, 0, 0)
        tokens = [self.context(pictures)]
        if self.cfg.sampler.own_context:  # not clamped: nobody has seen this copy
            tokens.append(self.context(self.autoencoder.decode(latents)))
        return torch.stack(tokens, dim=1)

    def _slide(self, state: RolloutState, noise: FrameNoise) -> RolloutState:
        """Make room in a full window for one more frame, whose noise is `noise`."""
        kept = state.latents[:, -(self.window - 1) :]
        latents, condition, context = kept, state.condition, state.context
        if self.cfg.sampler.reencode:
            pictures = self._seen(kept.flatten(0, 1))
            latents = self._encode(pictures.unflatten(0, kept.shape[:2]), noise.earlier(1))
        if self.cfg.condition_frame == "oldest":
            condition = latents[:, 0]
            context = self._context_tokens(self._seen(kept[:, 0]), condition)
        actions = state.actions[:, -(self.window - 1) :]
        return RolloutState(state.frame, condition, context, latents, actions)

    def _denoiser(self, state: RolloutState, actions: Tensor) -> Denoiser:
        """Return the network, told actions (B, T, A) and the state's conditioning frame."""
        context = state.context

        def denoise(noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
            branches = len(noisy) // len(actions)
            own = context.expand(-1, branches, -1, -1) if context.shape[1] == 1 else context
            told = self.told(
                state.condition.repeat(branches, 1, 1, 1),
                actions.repeat(branches, 1, 1),
                mask,
                own[:, :branches].transpose(0, 1).flatten(0, 1),
            )
            return self.velocity(noisy, levels, told)

        return denoise


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
