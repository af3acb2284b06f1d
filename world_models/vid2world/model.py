"""Vid2World as a world model: encode a frame, imagine the next latent, decode it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.loader import from_mapping
from configs.lookup import lookup
from configs.model import WorldModelConfig
from configs.robots import ROBOTS
from world_models.base import FrameNoise, RolloutState
from world_models.checkpoint import check_kind, load_checkpoint, save_checkpoint
from world_models.diffusion import NoiseSchedule
from world_models.frames import check_frames, to_tensor, to_uint8
from world_models.sampler import sample_next_frame
from world_models.vid2world.autoencoder import Autoencoder
from world_models.vid2world.unet import UNet

KIND = "vid2world"


class Vid2World(nn.Module):
    """A causal, action-conditioned latent video diffusion model of one robot's camera.

    Implements `WorldModel`. Source: Vid2World, arXiv 2505.14357.
    """

    def __init__(self, cfg: WorldModelConfig) -> None:
        """Build with fresh weights.

        Raises:
            ValueError: Unknown robot.
        """
        super().__init__()
        self.cfg = cfg
        self.robot = lookup(ROBOTS, cfg.robot, "robot")
        self.window = cfg.window
        self.card: Mapping[str, Any] = {}
        self.autoencoder = Autoencoder(cfg.autoencoder)
        self.unet = UNet(cfg.unet, cfg.autoencoder.latent_channels, self.robot.action_size)
        self.schedule = NoiseSchedule(cfg.diffusion)

    @torch.inference_mode()
    def start(self, frames: NDArray[np.uint8]) -> RolloutState:
        """See `WorldModel.start`."""
        latents = self.autoencoder.encode(to_tensor(check_frames(frames, self.robot)))
        no_action = torch.full((len(frames), 1, self.robot.action_size), float("nan"))
        return RolloutState(to_tensor(frames), latents, latents[:, None], no_action)

    @torch.inference_mode()
    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.step`."""
        taken = torch.from_numpy(self.robot.check_actions(actions))[:, None]
        history = state.latents[:, -(self.window - 1) :]
        told = torch.cat([state.actions, taken], dim=1)[:, -self.window :]

        def denoise(noisy: Tensor, levels: Tensor, mask: Tensor) -> Tensor:
            branches = len(noisy) // len(told)
            return self.velocity(
                noisy,
                state.condition.repeat(branches, 1, 1, 1),
                levels,
                told.repeat(branches, 1, 1),
                mask,
            )

        latent = sample_next_frame(denoise, self.schedule, self.cfg.sampler, history, noise)
        frame = to_tensor(to_uint8(self.autoencoder.decode(latent)))
        return RolloutState(
            frame=frame,
            condition=state.condition,
            latents=torch.cat([history, latent[:, None]], dim=1),
            actions=told,
        )

    def velocity(
        self,
        noisy: Tensor,
        condition: Tensor,
        noise_levels: Tensor,
        actions: Tensor,
        action_mask: Tensor,
    ) -> Tensor:
        """Run the network on actions (B, T, A) in the robot's units; NaN means no action.

        The other arguments and the result are those of `UNet.forward`.
        """
        known = action_mask & actions.isfinite().all(-1)
        velocity: Tensor = self.unet(
            noisy, condition, noise_levels, self.normalised(actions.nan_to_num()), known
        )
        return velocity

    def normalised(self, actions: Tensor) -> Tensor:
        """Bring actions (..., A) from the robot's bounds to [-1, 1]; a fixed value becomes 0."""
        low, high = torch.from_numpy(self.robot.low), torch.from_numpy(self.robot.high)
        span = (high - low).to(actions)
        centred = 2 * (actions - low.to(actions)) - span
        return centred / torch.where(span > 0, span, torch.ones_like(span))

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Write weights in half precision and a card; `provenance` says where they come from."""
        tensors = {name: value.half() for name, value in self.state_dict().items()}
        parameters = sum(p.numel() for p in self.parameters())
        card = {
            "kind": KIND,
            "config": asdict(self.cfg),
            "parameters": parameters,
            "provenance": dict(provenance),
        }
        save_checkpoint(path, tensors, card)


def load_vid2world(path: Path) -> Vid2World:
    """Rebuild the model that `Vid2World.save` wrote, ready for inference in single precision.

    Raises:
        FileNotFoundError: Nothing there.
        ValueError: Truncated, of another kind, or with missing, surplus or misshapen weights.
    """
    tensors, card = load_checkpoint(path)
    check_kind(path, card, KIND)
    model = Vid2World(from_mapping(WorldModelConfig, card["config"], str(path)))
    try:
        model.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(
            f"expected the weights that the card of {path} describes; {error}"
        ) from error
    model.card = card
    return model.eval().requires_grad_(False)
