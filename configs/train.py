"""Settings of every training, and of `v2w collect`, which records episodes for it."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from v2w_gym.configs.model import WorldModelConfig
from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.configs.rules import (
    Amount,
    BatchSize,
    Factor,
    FileName,
    LearningRate,
    PathText,
    Range,
    Seed,
    Share,
    SomeOf,
    Steps,
    Threads,
    Window,
    distinct,
    some,
)
from v2w_gym.configs.sampler import NoiseLevel
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.configs.values import Settings


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


@dataclass(frozen=True)
class AdamConfig(Settings):
    """How gradients are followed. Adam whose weights decay on their own; without decay it is Adam.

    Attributes:
        learning_rate: Peak rate, reached after `warmup` steps.
        warmup: Steps of linear warm-up; 0 for none.
        schedule: What follows the warm-up: a cosine that ends at zero, or a constant rate.
        weight_decay: Share of a weight, times the rate, that is taken off in each step.
        epsilon: What Adam adds to the root of the squared gradients.
        clip_norm: Largest norm of the gradient; null for no limit.
        nonfinite: What happens when values of the gradient are NaN or infinite: error, or zero,
            which sets those values to zero and goes on. How many they were is in `metrics.jsonl`.
            No such value gets into the weights.
    """

    learning_rate: LearningRate = 1e-3
    warmup: Annotated[int, Range(0, 100_000_000)] = 100
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Factor = 0.01
    epsilon: Share = 1e-8
    clip_norm: Factor | None = 1.0
    nonfinite: Literal["error", "zero"] = "error"


@dataclass(frozen=True)
class TrainPolicyConfig(Settings):
    """How an RT-1 policy is cloned from demonstrations.

    The same command resumes. A resumed run may have another device or other threads, readers or
    `save_every`, and the same files at another place. It may also have another
    `optimiser.learning_rate`, which the log and the cards then say. The number of steps is fixed,
    for schedule and stages depend on it.

    Attributes:
        output: Run folder; the same command resumes there.
        weights: Folder of the finished checkpoints, one per stage.
        robot: Name of the `RobotSpec` whose actions the policy gives.
        episodes: Folders with training episodes: recorded ones (episode_*.npz, whose expert is
            cloned), or the folder of an RLDS data set as TFDS writes it whose features are named
            as in fractal20220817_data; its split may follow a colon: "FOLDER:train[:1000shard]".
        held_out: The same for the validation loss on the cards; none where it is empty.
        held_out_windows: How many windows the validation loss is the mean of.
        instructions: Table of instruction vectors (.safetensors) as `v2w embed` writes it; null for
            those an RLDS data set stores, and for vectors that only tell recorded instructions
            apart (`v2w_gym.policies.instructions.embed`).
        stages: Name of each checkpoint that is kept, and when: a whole number is a step, a number
            with a point in (0, 1] a share of all steps.
        size: Name of the network's sizes; a key of `v2w_gym.configs.rt1.RT1_SIZES`.
        network: Sizes that differ from those; see `RT1Config`.
        encoder_weights: ImageNet weights that the image encoder starts from: the file
            `model.safetensors` of timm's `tf_efficientnet_b3.in1k` for `size: rt1`; null for random
            ones.
        steps: Optimiser steps.
        batch_size: Windows of `history` frames per step.
        optimiser: See `AdamConfig`.
        augmentation: How frames are moved: none, shift (each window by up to `shift` pixels, the
            edge repeated), or pad_crop (all windows of a step alike, by up to 20 rows and 50
            columns at 256 x 320 pixels, black beyond the edge, as published).
        shift: Largest shift of `augmentation: shift`, in pixels.
        precision: Arithmetic of the network in training: float32, or bfloat16 where it is safe
            (torch.autocast). Checkpoints and validation do not depend on it.
        seed: Seed of weights, batches, augmentation and dropout.
        device: Where the network is trained, such as cpu or cuda.
        threads: CPU threads.
        readers: Threads that read batches ahead; 0 reads each when it is needed.
        save_every: Steps between saves of the state that a resume needs.
    """

    output: PathText = "runs/train_policy"
    weights: PathText = "runs/train_policy/weights"
    robot: str = "standin_sawyer"
    episodes: Annotated[list[PathText], distinct] = field(default_factory=list)
    held_out: Annotated[list[PathText], distinct] = field(default_factory=list)
    held_out_windows: Amount = 256
    instructions: PathText | None = None
    stages: dict[FileName, Steps | Share] = field(default_factory=dict)
    size: str = "small"
    network: Annotated[dict[str, Any], SomeOf(RT1Config)] = field(default_factory=dict)
    encoder_weights: PathText | None = None
    steps: Steps = 2000
    batch_size: BatchSize = 32
    optimiser: AdamConfig = field(default_factory=AdamConfig)
    augmentation: Literal["none", "shift", "pad_crop"] = "shift"
    shift: Annotated[int, Range(0, 16_384)] = 3
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Seed = 0
    device: str = "cpu"
    threads: Threads = 1
    readers: Annotated[int, Range(0, 256)] = 0
    save_every: Steps = 100


@dataclass(frozen=True)
class TrainPlannerConfig(Settings):
    """How the planner's perception is trained on recorded frames.

    Attributes:
        output: Where the weights (.safetensors) and their card go.
        robot: Name of the `RobotSpec` whose actions the policy gives.
        episodes: Folders with training episodes.
        held_out: Folders with episodes the card's errors are measured on.
        channels: Channels of the perception network's three convolutions; the last is also the
            number of its keypoints.
        steps: Optimiser steps.
        batch_size: Frames per step.
        learning_rate: Peak rate of AdamW.
        seed: Seed of weights, batches and augmentations.
        threads: CPU threads.
        save_every: Steps between saves of the state that a resume needs.
    """

    output: PathText = "runs/train_planner/planner.safetensors"
    robot: str = "standin_sawyer"
    episodes: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/train"]
    )
    held_out: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/held_out"]
    )
    channels: tuple[Annotated[int, Range(1, 4096)], ...] = (16, 32, 32)
    steps: Steps = 4000
    batch_size: BatchSize = 64
    learning_rate: LearningRate = 3e-3
    seed: Seed = 0
    threads: Threads = 1
    save_every: Steps = 500


@dataclass(frozen=True)
class CollectConfig(Settings):
    """What to record on the stand-in robot.

    Attributes:
        output: Folder for the episodes.
        tasks: Which tasks; each gets `episodes` episodes.
        episodes: Episodes per task.
        first_seed: Start of episode i is fixed by seed `first_seed + i`.
        behaviours: Share of episodes per behaviour; see `v2w_gym.standin.behaviours`.
        workers: Processes.
    """

    output: PathText = "data/standin/train"
    tasks: Annotated[list[str], some] = field(
        default_factory=lambda: list(tasks_of("standin_sawyer"))
    )
    episodes: Amount = 2400
    first_seed: Seed = 0
    behaviours: dict[str, Factor] = field(
        default_factory=lambda: {
            "expert": 0.15,
            "noisy_expert": 0.30,
            "misaimed_expert": 0.20,
            "other_task": 0.05,
            "there_and_back": 0.10,
            "expert_then_noise": 0.10,
            "random_walk": 0.10,
        }
    )
    workers: Threads = 2


@dataclass(frozen=True)
class JudgeTrainConfig(Settings):
    """How the success judge is trained and measured.

    Attributes:
        output: Where the weights (.safetensors) and their card go.
        episodes: Folders with training episodes.
        held_out: Folders with episodes the card's accuracy is measured on.
        steps: Optimiser steps.
        batch_size: Frames per step.
        learning_rate: Peak rate of AdamW.
        seed: Seed of weights, batches and augmentations.
        threads: CPU threads.
        save_every: Steps between saves of the state that a resume needs.
    """

    output: PathText = "runs/judge/judge.safetensors"
    episodes: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/train"]
    )
    held_out: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/held_out"]
    )
    steps: Steps = 4000
    batch_size: BatchSize = 128
    learning_rate: LearningRate = 2e-3
    seed: Seed = 0
    threads: Threads = 1
    save_every: Steps = 500
