"""Train a world model: the autoencoder, then the denoiser on its latents. Read it top to bottom."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs.lookup import lookup
from configs.model import SamplerConfig
from configs.robots import ROBOTS
from configs.train import DenoiserTrainConfig, TrainConfig
from world_models.autoencoder_training import encode_all, train_autoencoder
from world_models.data.clips import Clips, EpisodeSet, load_episode_set, sample_clips
from world_models.diffusion import NoiseSchedule
from world_models.optimiser import Optimiser
from world_models.vid2world.autoencoder import Autoencoder
from world_models.vid2world.model import Vid2World

CHECKPOINT = "world_model.safetensors"


def train(cfg: TrainConfig) -> Path:
    """Train what `cfg` describes, or resume where the same run folder stands.

    A run depends on its settings alone: interrupted and resumed, it ends with the same weights.

    Returns:
        The finished checkpoint, in the run folder.

    Raises:
        FileNotFoundError: No training episodes.
        ValueError: Corrupt episodes, or a run folder of other settings.
    """
    torch.set_num_threads(cfg.threads)
    output = _open_run(cfg)
    data = load_episode_set(cfg.episodes, lookup(ROBOTS, cfg.model.robot, "robot"))
    torch.manual_seed(cfg.seed)
    model = Vid2World(cfg.model)
    if not isinstance(model.autoencoder, Autoencoder):
        raise ValueError("expected model.kl_autoencoder=null: training fits an autoencoder of ours")
    train_autoencoder(
        model.autoencoder, data, cfg.autoencoder, cfg.seed, output / "autoencoder.state"
    )
    latents = encode_all(model.autoencoder, data)
    train_denoiser(model, data, latents, cfg.denoiser, cfg.seed, output / "denoiser.state")
    model.half().save(
        output / CHECKPOINT, {"training_episodes": len(data.starts), "settings": asdict(cfg)}
    )
    return output / CHECKPOINT


def train_denoiser(
    model: Vid2World,
    data: EpisodeSet,
    latents: Tensor,
    cfg: DenoiserTrainConfig,
    seed: int,
    state: Path,
) -> None:
    """Fit the network to noisy windows of latents, resuming from `state`."""
    optimiser = Optimiser(model.unet, cfg, state)
    for step in optimiser.remaining_steps():
        rng = np.random.default_rng([seed, 2, step])
        clips = sample_clips(data, latents, cfg.batch_size, cfg.clip_frames, rng)
        optimiser.step(diffusion_forcing_loss(model, clips, cfg, rng))
    model.unet.load_state_dict(optimiser.average)
    model.unet.eval()


def diffusion_forcing_loss(
    model: Vid2World, clips: Clips, cfg: DenoiserTrainConfig, rng: np.random.Generator
) -> Tensor:
    """Return the mean squared error of the predicted velocity, its weight capped.

    Every frame has a noise level of its own, and its action is hidden with a chance of its own.
    Source: Vid2World section 4.2; Diffusion Forcing (Chen et al. 2024).
    """
    shape = clips.latents.shape
    levels = sample_noise_levels(len(model.schedule), shape[:2], cfg, rng)
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
    action_mask = torch.from_numpy(rng.random(shape[:2]) >= cfg.action_dropout)
    scaled = model.schedule.rescaled(clips.latents, levels)
    noisy = model.schedule.add_noise(scaled, noise, levels)
    with torch.autocast("cpu", torch.bfloat16):
        told = model.told(clips.condition, clips.actions, action_mask)
        predicted = model.velocity(noisy, levels, told)
    target = model.schedule.velocity(scaled, noise, levels)
    error = (predicted - target).square().mean((2, 3, 4))  # (B, T)
    return (error * loss_weight(model.schedule, levels, cfg.largest_weight)).mean()


def loss_weight(schedule: NoiseSchedule, levels: Tensor, largest: float) -> Tensor:
    """Return the weight (B, T) of the velocity's error at noise levels (B, T).

    1 + SNR is the inverse of the noise power; zero terminal SNR keeps a weight of one.
    Source: min-SNR weighting (Hang et al. 2023), restated for velocity.
    """
    noise_power = 1 - schedule.alphas_cumprod[levels]
    return (largest * noise_power).clamp(max=1)


def sample_noise_levels(
    noise_levels: int, shape: tuple[int, ...], cfg: DenoiserTrainConfig, rng: np.random.Generator
) -> Tensor:
    """Return independent levels (B, T), int64: near-clean ones with a set chance, or any."""
    uniform = rng.random(shape)
    levels = (noise_levels * (1 - uniform**cfg.high_noise_bias)).astype(np.int64)
    near_clean = rng.integers(0, cfg.low_noise_level + 1, shape)
    return torch.from_numpy(np.where(rng.random(shape) < cfg.low_noise_share, near_clean, levels))


def _open_run(cfg: TrainConfig) -> Path:
    """Make the run folder and note the settings; refuse a folder of other settings.

    The sampler plays no part in training, so it may change.
    """
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    trained = replace(cfg, model=replace(cfg.model, sampler=SamplerConfig()))
    noted, settings = output / "config.json", json.dumps(asdict(trained), indent=2)
    if noted.exists() and noted.read_text() != settings:
        raise ValueError(
            f"expected the settings in {noted}, found others; "
            "repeat the command that made the folder or choose another output="
        )
    noted.write_text(settings)
    return output
