"""Vid2World as a world model: it encodes frames, samples the next latent and decodes it."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.model import WorldModelConfig
from v2w_gym.configs.model_limits import check_context_frames, check_model_config, check_networks
from v2w_gym.configs.names import lookup
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.checkpoint import (
    card_of,
    card_without_checkpoint,
    check_finite,
    check_kind,
    config_on_card,
    fingerprint_of,
    fitting_weights,
    load_checkpoint,
    save_checkpoint,
)
from v2w_gym.world_models.device import DTYPES
from v2w_gym.world_models.frames import check_clip, check_context
from v2w_gym.world_models.sampler import MASK_DRAW, Sampler, each_frame
from v2w_gym.world_models.state import FrameNoise, RolloutState, begin_state, step_in_groups
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder
from v2w_gym.world_models.vid2world.networks import Networks
from v2w_gym.world_models.vid2world.next_frame import (
    check_history,
    needs_cache,
    step_after_cache,
    step_full_window,
    update_cache,
    window_network,
)
from v2w_gym.world_models.weight_files import one_line

KIND = "vid2world"


class Vid2World(Networks):
    """A causal, action-conditioned latent video diffusion model of one robot's camera.

    Implements `WorldModel` and `ClipModel`. Source: Vid2World, arXiv 2505.14357.

    Attributes:
        context_frames: See `WorldModel`.
    """

    def __init__(self, cfg: WorldModelConfig) -> None:
        """Build with fresh weights.

        Raises:
            ValueError: Unknown robot, or inconsistent settings.
        """
        super().__init__(cfg)
        self.context_frames = cfg.context_frames
        self._card: Mapping[str, Any] = {}

    @property
    def card(self) -> Mapping[str, Any]:
        """The checkpoint's card, or a digest of settings and weights for a model without a file."""
        if self._card:
            return self._card
        kind, robot = type(self).__name__, self.robot.name
        return card_without_checkpoint(kind, robot, self.window, self.cfg, self.state_dict())

    @card.setter
    def card(self, card: Mapping[str, Any]) -> None:
        self._card = card

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.card)

    @torch.inference_mode()
    def start(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        frames, actions = check_context(frames, actions, self.robot, self.window)
        state = self._begin(frames, actions, noise)
        return update_cache(self, state, noise) if self._needs_cache else state

    @torch.inference_mode()
    def step(
        self, state: RolloutState, actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        """See `WorldModel.step`.

        Rollouts of any age pass together with per-frame norms, those of one age with pooled norms.

        Raises:
            ValueError: As there; or a state with another window, or without the cache that the
                sampler needs.
        """
        taken = torch.from_numpy(self.robot.check_actions(actions)).to(state.actions)
        cached = self._needs_cache
        found = state.latents.shape[1], bool(state.cache)
        if found != (self.window, cached):
            raise ValueError(
                f"expected a state with a window of {self.window} and cache={cached}, as this "
                f"model's start() makes them, found {found[0]} and {found[1]}; continue a rollout "
                "with the window and sampler.history that it began with"
            )
        step = step_after_cache if cached else step_full_window
        any_age = cached and self.is_per_frame
        ages = [0] * len(state) if any_age else state.lengths.tolist()
        return step_in_groups(
            ages, lambda rows: step(self, state.select(rows), taken[rows], noise.select(rows))
        )

    @torch.inference_mode()
    def render(self, state: RolloutState) -> NDArray[np.uint8]:
        return self.frames(state.latents[:, -1])

    @torch.inference_mode()
    def imagine_clip(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> NDArray[np.uint8]:
        frames, actions = check_clip(frames, actions, self.robot, self.window)
        none = np.zeros((len(frames), 0, self.robot.action_size), np.float32)
        length, keep = actions.shape[1] + 1, self.cfg.sampler.clip_keep
        state = self._begin(frames[:, None], none, noise.earlier(length - 1))
        # No action leads to the first frame. Uniform numbers, the normal distribution function of
        # normal draws, decide which actions the unconditional branch keeps.
        led = F.pad(torch.from_numpy(actions), (0, 0, 1, 0), value=torch.nan).to(state.actions)
        uniform = torch.special.ndtr(each_frame(noise, MASK_DRAW, length, ()))
        unconditional = (uniform < keep).to(led.device)  # (B, T)
        network = window_network(self, state, led)
        latents = self.sampler.clip(network, unconditional, state.condition, noise)
        return self.frames(latents.flatten(0, 1)).reshape(len(frames), length, *frames.shape[1:])

    def with_sampler(self, sampler: SamplerConfig) -> "Vid2World":
        """Return this model with another sampler; the weights are shared.

        Raises:
            ValueError: A setting out of range, or one that is for published checkpoints only.
        """
        if sampler.sample_latents and not isinstance(self.autoencoder, KLAutoencoder):
            raise ValueError(
                "expected sample_latents=false, since this model's autoencoder has no posterior to "
                "sample, found true; preset 'reference' is for published checkpoints"
            )
        check_history(sampler, self.cfg.unet)
        return self._with(replace(self.cfg, sampler=sampler))

    def with_window(self, window: int, context_frames: int) -> "Vid2World":
        """Return this model with another window and start; the weights are shared.

        Raises:
            ValueError: Context frames that leave no room in the window, or a window out of range.
        """
        check_context_frames(window, context_frames)
        return self._with(replace(self.cfg, window=window, context_frames=context_frames))

    def with_dtype(self, dtype: str) -> "Vid2World":
        """Return this model with a network that computes in `dtype`, a key of `DTYPES`.

        The autoencoder stays in float32, which pixels need. The card records the dtype.
        """
        precision = lookup(DTYPES, dtype, "dtype")
        if precision == self.precision:
            return self
        with torch.device("meta"):
            other = Vid2World(self.cfg)
        weights = {
            name: value if name.startswith("autoencoder.") else value.to(precision)
            for name, value in self.state_dict().items()
        }
        other.load_state_dict(weights, assign=True)
        other.card = self._card and {**self._card, "dtype": dtype}
        return other.eval().requires_grad_(False)

    def save(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Write weights in their current precision, and a card with their provenance.

        Raises:
            OSError: The file could not be written.
            ValueError: Weights that are not finite, or overflow their precision.
        """
        weights = self.state_dict()
        check_finite(path, weights)
        save_checkpoint(path, weights, self.make_card(provenance))

    def make_card(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Return a card for these weights, in JSON values."""
        return {
            "kind": KIND,
            "robot": self.robot.name,
            "config": asdict(self.cfg),
            "parameters": sum(p.numel() for p in self.parameters()),
            "provenance": dict(provenance),
        }

    @property
    def _needs_cache(self) -> bool:
        return needs_cache(self.cfg.sampler, self.cfg.unet)

    def _with(self, cfg: WorldModelConfig) -> "Vid2World":
        """Return this model, and its card, with other settings that no weight depends on."""
        check_networks(cfg)
        other = copy.copy(self)
        other.cfg, other.window, other.context_frames = cfg, cfg.window, cfg.context_frames
        other.sampler = Sampler(self.schedule, cfg.sampler)
        if self._card and cfg != from_mapping(WorldModelConfig, self._card["config"], "the card"):
            other.card = {**self._card, "config": asdict(cfg)}
        return other

    def _begin(
        self, frames: NDArray[np.uint8], actions: NDArray[np.float32], noise: FrameNoise
    ) -> RolloutState:
        pictures = self.pictures(frames)  # (B, T, 3, H, W) of the canvas
        latents = self.encode(pictures, noise)
        state = begin_state(latents, torch.from_numpy(actions).to(latents), self.window)
        return replace(state, context=self.read_context(pictures[:, 0], latents[:, 0]))


def load_vid2world(path: Path, device: str = "cpu") -> Vid2World:
    """Load the model that `Vid2World.save` wrote, ready for inference on `device`.

    Single-precision weights stay in the file until they are read. Other precisions are converted to
    float32, except bfloat16 on a GPU, which the network also runs in.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A truncated file, another kind, a card with inconsistent settings, or missing,
            unknown, misshapen or infinite weights.
    """
    tensors, card = load_checkpoint(path)
    check_kind(path, card, KIND)
    cfg = config_on_card(path, card, "config", WorldModelConfig)
    try:
        check_model_config(cfg)
        with torch.device("meta"):
            model = Vid2World(cfg).with_sampler(cfg.sampler)
    except ValueError as error:
        raise ValueError(f"{one_line(error)}; the card is {card_of(path)}") from error
    weights = fitting_weights(path, model, tensors)
    kept = {torch.bfloat16} if torch.device(device).type == "cuda" else set()
    weights = {k: v if v.dtype in kept else v.float() for k, v in weights.items()}
    model.load_state_dict(weights, assign=True)
    model.card = card
    return model.to(device).eval().requires_grad_(False)
