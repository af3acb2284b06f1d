"""Settings of `v2w train`."""

from dataclasses import dataclass, field

from configs.model import WorldModelConfig


@dataclass(frozen=True)
class OptimiserConfig:
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

    steps: int
    batch_size: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.2
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    save_every: int = 500


@dataclass(frozen=True)
class AutoencoderTrainConfig(OptimiserConfig):
    """How the autoencoder is trained.

    Attributes:
        moving_weight: Extra weight of a pixel that differs from the mean frame: what moves is
            small and matters.
        latent_noise: Noise added to latents before decoding, so that near latents look alike.
        latent_penalty: Weight of the squared latent, which keeps its scale near one.
    """

    steps: int = 8000
    batch_size: int = 32
    learning_rate: float = 1e-3
    moving_weight: float = 4.0
    latent_noise: float = 0.1
    latent_penalty: float = 1e-3


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

    steps: int = 20000
    batch_size: int = 8
    learning_rate: float = 6e-4
    clip_frames: int = 10
    action_dropout: float = 0.1
    low_noise_share: float = 0.5
    low_noise_level: int = 30
    high_noise_bias: float = 2.0
    largest_weight: float = 5.0


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run: autoencoder, then denoiser.

    Attributes:
        output: Run folder; the same command resumes there.
        episodes: Folders with training episodes.
        model: The world model's own settings.
        autoencoder: See `AutoencoderTrainConfig`.
        denoiser: See `DenoiserTrainConfig`.
        seed: Seed of weights, batches and noise.
        threads: CPU threads.
    """

    output: str = "runs/train"
    episodes: list[str] = field(default_factory=lambda: ["data/standin/train"])
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    autoencoder: AutoencoderTrainConfig = field(default_factory=AutoencoderTrainConfig)
    denoiser: DenoiserTrainConfig = field(default_factory=DenoiserTrainConfig)
    seed: int = 0
    threads: int = 2
