"""Training of a world model: the autoencoder, then the denoiser on its latents."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.train import DenoiserTrainConfig, OptimiserConfig, TrainConfig
from v2w_gym.world_models.autoencoder_training import encode_all, train_autoencoder
from v2w_gym.world_models.data.clips.episode_set import (
    Clips,
    EpisodeSet,
    load_episode_set,
    long_enough,
    sample_clips,
)
from v2w_gym.world_models.data.sources.opening import open_sources
from v2w_gym.world_models.data.starts.held_out import TRAINING_IDS
from v2w_gym.world_models.device import choose_precision, in_precision
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.frames import to_tensor
from v2w_gym.world_models.optimiser import Optimiser, check_not_diverged
from v2w_gym.world_models.run_folder import RunFolder, hold_folder, identify_files, read_identity
from v2w_gym.world_models.schedules import RATE_SETTINGS, Recipe
from v2w_gym.world_models.vid2world.autoencoder import Autoencoder
from v2w_gym.world_models.vid2world.model import Vid2World

CHECKPOINT, SETTINGS = "world_model.safetensors", "config.json"
STAGES = ("autoencoder", "denoiser")
UNFIT = (AttributeError, IndexError, RuntimeError, TypeError, ZeroDivisionError)
"""Exceptions of networks whose settings are inconsistent."""


def train(cfg: TrainConfig) -> Path:
    """Train a world model, or resume the run in its folder.

    A run depends on its settings alone: an interrupted and resumed run ends with the same weights.

    Returns:
        The finished checkpoint, in the run folder.

    Raises:
        BlockingIOError: Another process runs in the folder.
        FileNotFoundError: No training episodes.
        FloatingPointError: A loss, gradient or weight that is not finite.
        ValueError: Corrupt or short episodes, or a run folder with other settings.
    """
    torch.set_num_threads(cfg.threads)
    with hold_folder(Path(cfg.output)) as output:
        return _train(cfg, output)


def _train(cfg: TrainConfig, output: Path) -> Path:
    precision = _precision(cfg, output / SETTINGS)
    sources = open_sources(cfg.episodes)
    digest = identify_files([path for source in sources.values() for path in source.files])
    settings = {**asdict(cfg), "precision": precision, "data": digest}
    run = RunFolder(output, settings, _may_differ(output), SETTINGS)
    data = load_episode_set(sources, lookup(ROBOTS, cfg.model.robot, "robot"))
    long_enough(data, cfg.denoiser.clip_frames)
    model, autoencoder = _build(cfg, data)
    run.begin()
    first = _optimiser(autoencoder, cfg.autoencoder, output, "autoencoder")
    train_autoencoder(autoencoder, data, cfg.autoencoder, cfg.seed, first, precision)
    latents = encode_all(autoencoder, data)
    second = _optimiser(model.unet, cfg.denoiser, output, "denoiser")
    train_denoiser(model, data, latents, cfg.denoiser, cfg.seed, second, precision)
    check_not_diverged(model.half().state_dict(), "the weights in half precision")
    del settings["output"]  # a run folder may be moved
    notes = {
        "training_episodes": len(data.ids),
        TRAINING_IDS: data.ids,
        "settings": settings,
        "changes": first.changes + second.changes,
    }
    model.save(output / CHECKPOINT, notes)
    return output / CHECKPOINT


def _build(cfg: TrainConfig, data: EpisodeSet) -> tuple[Vid2World, Autoencoder]:
    """Return an untrained model and its autoencoder.

    Raises:
        ValueError: Model settings that are inconsistent, or do not match the frames.
    """
    if cfg.model.kl_autoencoder is not None:
        raise ValueError(
            "expected model.kl_autoencoder=null, since training trains this project's autoencoder, "
            "found settings for one"
        )
    torch.manual_seed(cfg.seed)
    try:
        model = Vid2World(cfg.model)
        assert isinstance(model.autoencoder, Autoencoder)
        _check_forward_pass(model, data, cfg.denoiser)
    except UNFIT as error:
        found = str(error).partition("\n")[0]
        raise ValueError(
            "expected consistent model settings for frames of "
            f"{data.frames.shape[1:3]} pixels, found: {found}"
        ) from error
    return model, model.autoencoder


@torch.no_grad()
def _check_forward_pass(model: Vid2World, data: EpisodeSet, cfg: DenoiserTrainConfig) -> None:
    """Pass one frame through all networks, to find errors now and not hours later."""
    with torch.random.fork_rng(devices=[]):
        latent = model.autoencoder.encode(to_tensor(data.frames[:1]))
        model.autoencoder.decode(latent)
        still = latent[:, None].expand(-1, cfg.clip_frames, -1, -1, -1)
        unknown = torch.from_numpy(data.actions[None, :1]).expand(-1, cfg.clip_frames, -1)
        clips = Clips(still, latent, unknown)
        diffusion_forcing_loss(model, clips, cfg, np.random.default_rng(0), "float32")


def train_denoiser(
    model: Vid2World,
    data: EpisodeSet,
    latents: Tensor,
    cfg: DenoiserTrainConfig,
    seed: int,
    optimiser: Optimiser,
    precision: str,
) -> None:
    """Train the denoising network on noisy windows of latents, for the remaining steps."""
    for step in optimiser.remaining_steps():
        rng = np.random.default_rng([seed, 2, step])
        torch.manual_seed(int(np.random.default_rng([seed, 3, step]).integers(2**63)))  # dropout
        clips = sample_clips(data, latents, cfg.batch_size, cfg.clip_frames, rng)
        optimiser.step(diffusion_forcing_loss(model, clips, cfg, rng, precision))
    model.unet.load_state_dict(optimiser.average)
    model.unet.eval()


def diffusion_forcing_loss(
    model: Vid2World,
    clips: Clips,
    cfg: DenoiserTrainConfig,
    rng: np.random.Generator,
    precision: str,
) -> Tensor:
    """Return the mean squared error of the predicted velocity, with a capped weight.

    Every frame has its own noise level, and its action is masked independently of the others.
    Source: Vid2World section 4.2; Diffusion Forcing (Chen et al. 2024).
    """
    shape = clips.latents.shape
    levels = sample_noise_levels(len(model.schedule), shape[:2], cfg, rng)
    noise = torch.from_numpy(rng.standard_normal(shape, np.float32))
    action_mask = torch.from_numpy(rng.random(shape[:2]) >= cfg.action_dropout)
    scaled = model.schedule.rescaled(clips.latents, levels)
    noisy = model.schedule.add_noise(scaled, noise, levels)
    with in_precision(precision, "cpu"):
        conditioning = model.conditioning(clips.condition, clips.actions, action_mask)
        predicted = model.velocity(noisy, levels, conditioning)
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
    """Return independent noise levels (B, T), int64; a share of them is near-clean."""
    uniform = rng.random(shape)
    levels = (noise_levels * (1 - uniform**cfg.high_noise_bias)).astype(np.int64)
    near_clean = rng.integers(0, cfg.low_noise_level + 1, shape)
    return torch.from_numpy(np.where(rng.random(shape) < cfg.low_noise_share, near_clean, levels))


def _precision(cfg: TrainConfig, noted: Path) -> str:
    """Return the precision of a run; a resumed run keeps its own on any processor."""
    earlier = read_identity(noted) or {}
    if cfg.precision == "auto" and "precision" in earlier:
        return str(earlier["precision"])
    return choose_precision(cfg.precision, "cpu")


def _optimiser(network: nn.Module, cfg: OptimiserConfig, folder: Path, stage: str) -> Optimiser:
    """Return the optimiser of a stage, resumed from the run folder."""
    recipe = Recipe(
        cfg.steps,
        cfg.learning_rate,
        cfg.save_every,
        schedule="linear",
        warmup=cfg.warmup,
        decay=cfg.decay,
        clip_norm=cfg.clip_norm,
        ema_decay=cfg.ema_decay,
        section=f"{stage}.",
    )
    return Optimiser(network, recipe, _state(folder, stage), folder / f"{stage}.jsonl")


def _state(folder: Path, stage: str) -> Path:
    return folder / f"{stage}.state"


def _may_differ(folder: Path) -> set[str]:
    """Return the settings that a resumed run may change.

    Training does not use the sampler. The optimiser records a changed schedule. That of the
    autoencoder is fixed once the denoiser has trained on its latents.
    """
    anywhere = {"output", "episodes", "threads", "model.sampler"}
    saves = {f"{stage}.save_every" for stage in STAGES}
    open_stages = STAGES[1:] if _state(folder, "denoiser").exists() else STAGES
    rates = {f"{stage}.{name}" for stage in open_stages for name in RATE_SETTINGS}
    return anywhere | saves | rates
