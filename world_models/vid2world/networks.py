"""The networks of Vid2World, with the conversion of frames and actions to their inputs."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from v2w_gym.configs.model import WorldModelConfig
from v2w_gym.configs.model_limits import check_networks
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.world_models.captured_graph import GraphedFunction
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.frames import from_canvas, to_canvas, to_tensor, to_uint8
from v2w_gym.world_models.sampler import ENCODE_DRAW, Sampler, each_frame
from v2w_gym.world_models.state import FrameNoise, Nested
from v2w_gym.world_models.vid2world.autoencoder import Autoencoder
from v2w_gym.world_models.vid2world.clip_towers import FrameContext
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder
from v2w_gym.world_models.vid2world.layers import Context, ContextKeys
from v2w_gym.world_models.vid2world.published.quirks import tokens_by_frame
from v2w_gym.world_models.vid2world.temporal import FullWindow
from v2w_gym.world_models.vid2world.unet import Conditioning, DecodeInputs, UNet


class Networks(nn.Module):
    """The autoencoder, the context towers and the denoising network.

    Attributes:
        cfg: Their settings.
        robot: The robot whose camera and actions they model.
        window: Most frames of a forward pass, the new one included.
        schedule: The noise schedule.
        sampler: The sampler with this schedule and these settings.
    """

    def __init__(self, cfg: WorldModelConfig) -> None:
        """Build with fresh weights.

        Raises:
            ValueError: Unknown robot, or inconsistent settings.
        """
        super().__init__()
        check_networks(cfg)
        self.cfg = cfg
        self.robot = lookup(ROBOTS, cfg.robot, "robot")
        self.window = cfg.window
        self.autoencoder = (
            KLAutoencoder(cfg.kl_autoencoder)
            if cfg.kl_autoencoder
            else Autoencoder(cfg.autoencoder)
        )
        self.context = FrameContext(cfg.context) if cfg.context else None
        channels = (cfg.kl_autoencoder or cfg.autoencoder).latent_channels
        self.unet = UNet(cfg.unet, channels, self.robot.action_size)
        self._graphed = GraphedFunction(self.unet.decode_velocity, self.unet)
        self.schedule = NoiseSchedule(cfg.diffusion)
        self.sampler = Sampler(self.schedule, cfg.sampler)

    def velocity(
        self,
        noisy: Tensor,
        noise_levels: Tensor,
        conditioning: Conditioning,
        time: FullWindow | None = None,
    ) -> Tensor:
        """Run the network in its own precision; arguments and result are those of `UNet.forward`.

        With conditioning of G B rollouts for latents of B rollouts, there are G guidance branches.
        """
        velocity: Tensor = self.unet(noisy.to(self.precision), noise_levels, conditioning, time)
        return velocity.float()

    def decode_velocity(self, inputs: DecodeInputs) -> Tensor:
        """Return the velocity (G B, C, h, w) of the newest frame from a decode step."""
        decode = self._graphed if inputs.noisy.is_cuda else self.unet.decode_velocity
        velocity: Tensor = decode(inputs)[0]
        return velocity[:, 0].float()

    def conditioning(
        self,
        condition: Tensor,
        actions: Tensor,
        action_mask: Tensor,
        context: tuple[ContextKeys, ...] = (),
        *,
        begins: bool = True,
    ) -> Conditioning:
        """Return the network's conditioning for windows of T frames.

        Args:
            condition: (B, C, h, w) latent of the conditioning frame.
            actions: (G B, T, A) that led to each frame, in the robot's units; NaN if unknown.
            action_mask: (G B, T) bool; False masks the action.
            context: See `context_keys`.
            begins: Whether the first of the frames is the first of a window.
        """
        kept = action_mask & actions.isfinite().all(-1)
        normalised = self.normalised(actions.nan_to_num())
        if begins and self.cfg.first_action == "zeros":
            zeros = torch.zeros_like(normalised[:, :1])
            normalised = torch.cat([zeros, normalised[:, 1:]], dim=1)
            kept = torch.cat([action_mask[:, :1], kept[:, 1:]], dim=1)
        rate = torch.full((len(actions),), self.cfg.rate, device=condition.device)
        frame = condition[:, None].to(self.precision)
        return Conditioning(frame, normalised.to(self.precision), kept, rate, context)

    def context_keys(
        self, context: Nested, branches: int, window: int, frames: slice
    ) -> tuple[ContextKeys, ...]:
        """Return keys and values of cross-attention for `frames` of a window, for G B rollouts.

        Args:
            context: `RolloutState.context`, of B rollouts.
            branches: Number of branches (G), which share the context if it has one set.
            window: Frames of the window, which decide each frame's image tokens in the published
                models.
            frames: The frames of the window in this pass.
        """

        def rows(kept: Tensor) -> Tensor:  # (B, G, M, C) -> (G B, M, C)
            kept = kept.expand(-1, branches, -1, -1) if kept.shape[1] == 1 else kept[:, :branches]
            return kept.transpose(0, 1).flatten(0, 1)

        def by_frame(kept: Tensor) -> Tensor:  # (B, G, M, C) -> (G B F, M / F, C)
            tokens = tokens_by_frame(rows(kept), 1 if self.is_per_frame else window)
            return (tokens[:, frames] if tokens.shape[1] > 1 else tokens).flatten(0, 1)

        return tuple(
            ContextKeys(rows(keys[0]), rows(keys[1]), by_frame(keys[2]), by_frame(keys[3]))
            for keys in context
        )

    def normalised(self, actions: Tensor) -> Tensor:
        """Scale actions (..., A) from the robot's bounds to [-1, 1], except `raw_fields`.

        A value that the robot cannot change becomes 0.
        """
        low, high = torch.from_numpy(self.robot.low), torch.from_numpy(self.robot.high)
        span = (high - low).to(actions)
        centred = 2 * (actions - low.to(actions)) - span
        unit = centred / torch.where(span > 0, span, torch.ones_like(span))
        for name in self.cfg.raw_fields:
            raw = self.robot.slices[name]
            unit[..., raw] = actions[..., raw]
        return unit

    @property
    def is_per_frame(self) -> bool:
        """Whether each frame has its own norm statistics, so that cached features stay exact."""
        return self.cfg.unet.temporal_norm == "per_frame"

    def pictures(self, frames: NDArray[np.uint8]) -> Tensor:
        """Turn camera frames (B, T, H, W, 3) into pictures (B, T, 3, H', W') of the model's."""
        pictures = to_tensor(frames).flatten(0, 1).to(self.device)
        if self.cfg.geometry is not None:
            pictures = to_canvas(pictures, self.cfg.geometry)
        return pictures.unflatten(0, frames.shape[:2])

    def frames(self, latents: Tensor) -> NDArray[np.uint8]:
        """Decode latents (N, C, h, w) to camera frames (N, H, W, 3)."""
        pictures = self.decode(latents)
        if self.cfg.geometry is not None:
            pictures = from_canvas(pictures, self.cfg.geometry, self.robot.frame_size)
        return to_uint8(pictures)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (N, C, h, w) to pictures (N, 3, H', W') in [-1, 1]."""
        return self.autoencoder.decode(latents).clamp(-1, 1)

    def encode(self, pictures: Tensor, noise: FrameNoise) -> Tensor:
        """Encode pictures (B, T, 3, H', W') as (B, T, C, h, w); `noise` is the newest one's."""
        flat = pictures.flatten(0, 1)
        if not (self.cfg.sampler.sample_latents and isinstance(self.autoencoder, KLAutoencoder)):
            return self.autoencoder.encode(flat).unflatten(0, pictures.shape[:2])
        shape = self.autoencoder.latent_shape(flat)
        draws = each_frame(noise, ENCODE_DRAW, pictures.shape[1], shape)  # (B, T, C, h, w)
        latents = self.autoencoder.encode(flat, draws.flatten(0, 1).to(flat))
        return latents.unflatten(0, pictures.shape[:2])

    def read_context(self, pictures: Tensor, latents: Tensor) -> tuple[ContextKeys, ...]:
        """Return a conditioning frame's keys and values in each cross-attention: (B, G, M, C) each.

        Args:
            pictures: (B, 3, H', W') the conditioning frame.
            latents: (B, C, h, w) its latent.
        """
        if self.context is None:
            return ()
        tokens = [self.context(pictures)]
        if self.cfg.sampler.own_context:  # not clamped, as in the published code
            tokens.append(self.context(self.autoencoder.decode(latents)))
        text = self.context.text.expand(len(pictures), -1, -1)
        branches = [
            self.unet.context_keys(Context(text.to(self.precision), image.to(self.precision)))
            for image in tokens
        ]
        return tuple(
            ContextKeys(*(torch.stack(parts, dim=1) for parts in zip(*keys, strict=True)))
            for keys in zip(*branches, strict=True)
        )

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.unet.conv_in.weight.device

    @property
    def precision(self) -> torch.dtype:
        """The dtype of the denoising network."""
        return self.unet.conv_in.weight.dtype
