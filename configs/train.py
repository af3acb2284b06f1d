"""Settings of `v2w train`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from configs.model import NoiseLevel, WorldModelConfig
from configs.rules import (
    BatchSize,
    Factor,
    LearningRate,
    PathText,
    Range,
    Seed,
    Share,
    Steps,
    Threads,
    Window,
    some,
)
from configs.values import Settings


@dataclass(frozen=True)
class OptimiserConfig(Settings):
    """One training stage.

    Attributes:
        steps: Optimiser steps.
        batch_size: Frames (autoencoder) or clips (world model) per step.
        learning_rate: Peak rate of AdamW, reached after `warmup` steps.
        warmup: Steps of linear warm-up.
        decay: Share of the steps, at the end, over which the rate falls linearly to zero.
        clip_norm: Largest gradient norm.
        ema_decay: Decay of the averaged weights that are kept; ramps up from zero.
        save_every: Steps between saves of the resumable state.
    """

    steps: Steps
    batch_size: BatchSize
    learning_rate: LearningRate
    warmup: Annotated[int, Range(0, 100_000_000)] = 100
    decay: Share = 0.2
    clip_norm: Factor = 1.0
    ema_decay: Share = 0.999
    save_every: Steps = 500


@dataclass(frozen=True)
class AutoencoderTrainConfig(OptimiserConfig):
    """How the autoencoder is trained.

    Attributes:
        moving_weight: Extra weight of a pixel that differs from the mean frame: what moves is
            small and matters.
        latent_noise: Noise added to latents before decoding, so that near latents look alike.
        latent_penalty: Weight of the squared latent, which keeps its scale near one.
    """

    steps: Steps = 8000
    batch_size: BatchSize = 32
    learning_rate: LearningRate = 1e-3
    moving_weight: Factor = 4.0
    latent_noise: Factor = 0.1
    latent_penalty: Factor = 1e-3


@dataclass(frozen=True)
class DenoiserTrainConfig(OptimiserConfig):
    """How the denoising network is trained (Diffusion Forcing).

    Attributes:
        clip_frames: Frames per training clip (T).
        action_dropout: Chance that a frame's action is hidden (independent per frame).
        low_noise_share: Chance that a frame's noise level comes from [0, low_noise_level] and not
            from all levels; near-clean history is what sampling sees. 0 is the paper's density.
        low_noise_level: See `low_noise_share`.
        high_noise_bias: Any other level is K (1 - u ** bias) for uniform u. 1 is the paper's
            density; 2 favours high levels, where a frame must be foretold and not just cleaned.
        largest_weight: A velocity's error weighs the clean latent's error by 1 + SNR; the weight
            is capped here, so that near-clean frames serve as history and not as targets.
    """

    steps: Steps = 20000
    batch_size: BatchSize = 8
    learning_rate: LearningRate = 6e-4
    clip_frames: Window = 10
    action_dropout: Share = 0.1
    low_noise_share: Share = 0.5
    low_noise_level: NoiseLevel = 30
    high_noise_bias: Annotated[float, Range(0.01, 100)] = 2.0
    largest_weight: Factor = 5.0


@dataclass(frozen=True)
class TrainConfig(Settings):
    """A whole training run: autoencoder, then denoiser.

    The same command resumes. A resumed run may have other threads, `save_every` or sampler, and the
    same episodes at another place. It may also have other `learning_rate`, `warmup`, `decay` or
    `steps` of the stage it is in: where the steps that are done would have had other rates, as when
    steps are added after the decay has begun, the log and the card say so.

    Attributes:
        output: Run folder; the same command resumes there.
        episodes: Folders with training episodes: our own, or .npz files of Vid2World's converter.
        model: The world model's own settings.
        autoencoder: See `AutoencoderTrainConfig`.
        denoiser: See `DenoiserTrainConfig`.
        precision: Arithmetic of the networks: float32, bfloat16 where it is safe (torch.autocast),
            or auto for the faster one on this processor. A run that is resumed keeps its own.
        seed: Seed of weights, batches and noise.
        threads: CPU threads.
    """

    output: PathText = "runs/train"
    episodes: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/train"]
    )
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    autoencoder: AutoencoderTrainConfig = field(default_factory=AutoencoderTrainConfig)
    denoiser: DenoiserTrainConfig = field(default_factory=DenoiserTrainConfig)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: Seed = 0
    threads: Threads = 2
