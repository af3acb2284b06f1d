"""Settings of the training commands, and of `v2w collect`, which records episodes for them."""

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
        decay: Last share of the steps, over which the rate falls linearly to zero.
        clip_norm: Largest gradient norm.
        ema_decay: Decay of the averaged weights, which become the result; ramps up from zero.
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
    """Training of the autoencoder.

    Attributes:
        moving_weight: Extra weight of pixels that differ from the mean frame, since moving objects
            are small but matter.
        latent_noise: Noise added to latents before decoding, so that similar latents decode alike.
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
    """Training of the denoising network (Diffusion Forcing).

    Attributes:
        clip_frames: Frames per training clip (T).
        action_dropout: Probability that a frame's action is masked, independently per frame.
        low_noise_share: Probability that a frame's noise level is drawn from [0, low_noise_level],
            as sampling has near-clean history frames; 0 is the paper's density.
        low_noise_level: See `low_noise_share`.
        high_noise_bias: Any other level is K (1 - u ** bias) for uniform u. 1 is the paper's
            density; 2 favours high levels, where a frame must be predicted and not just denoised.
        largest_weight: Cap of the loss weight. A velocity's error weighs the clean latent's error
            by 1 + SNR; the cap makes near-clean frames history more than targets.
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

    The same command resumes. A resumed run may change `threads`, `save_every` and the sampler, and
    may read the same episodes from another folder. It may also change `learning_rate`, `warmup`,
    `decay` or `steps` of its current stage. The log and the card record a change that gives past
    steps other rates, as when steps are added after the decay has begun.

    Attributes:
        output: Run folder; the same command resumes there.
        episodes: Folders with training episodes: our own, or .npz files of Vid2World's converter.
        model: The world model's own settings.
        autoencoder: See `AutoencoderTrainConfig`.
        denoiser: See `DenoiserTrainConfig`.
        precision: Precision of the networks: float32, bfloat16 where it is safe (torch.autocast),
            or auto for the faster one on this processor. A resumed run keeps its precision.
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
    """AdamW, with its schedule. Without weight decay it is Adam.

    Attributes:
        learning_rate: Peak rate, reached after `warmup` steps.
        warmup: Steps of linear warm-up; 0 for none.
        schedule: Rate after the warm-up: a cosine that ends at zero, or a constant.
        weight_decay: Share of each weight, times the rate, that a step subtracts.
        epsilon: Constant that Adam adds to the root of the mean squared gradient.
        clip_norm: Largest norm of the gradient; null for no limit.
        nonfinite: What to do about NaN or infinite values in a gradient: stop with an error, or
            set them to zero and continue. `metrics.jsonl` has their number.
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
    """Behaviour cloning of an RT-1 policy from demonstrations.

    The same command resumes. A resumed run may change `device`, `threads`, `readers` and
    `save_every`, and may read the same files from another folder. It may also change
    `optimiser.learning_rate`; the log and the cards record this. It cannot change `steps`, on which
    schedule and stages depend.

    Attributes:
        output: Run folder; the same command resumes there.
        weights: Folder of the finished checkpoints, one per stage.
        robot: Name of the `RobotSpec` that the policy acts on.
        episodes: Folders with training episodes: recorded ones (episode_*.npz, whose expert is
            cloned), or an RLDS data set as TFDS writes it, with the feature names of
            fractal20220817_data. Its split may follow a colon: "FOLDER:train[:1000shard]".
        held_out: Folders with episodes for the validation loss on the cards; empty for none.
        held_out_windows: Number of windows in the validation loss.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it. Null
            takes those in an RLDS data set; recorded episodes then get vectors without meaning, one
            per instruction (`v2w_gym.policies.instructions.embed`).
        stages: Name -> step of each checkpoint to keep: a whole number is a step, a decimal number
            in (0, 1] a share of all steps.
        size: Name of the network's sizes; a key of `v2w_gym.configs.rt1.RT1_SIZES`.
        network: Changes to single sizes; see `RT1Config`.
        encoder_weights: ImageNet weights that the image encoder starts from: the file
            `model.safetensors` of timm's `tf_efficientnet_b3.in1k` for `size: rt1`; null for random
            ones.
        steps: Optimiser steps.
        batch_size: Windows of `history` frames per step.
        optimiser: See `AdamConfig`.
        augmentation: Random shift of the frames: none; shift, which moves each window by up to
            `shift` pixels and repeats the edge; or pad_crop, as published, which moves all windows
            of a step alike and pads with black (20 rows and 50 columns at 256 x 320 pixels).
        shift: Largest shift of `augmentation: shift`, in pixels.
        precision: Precision of the network in training: float32, or bfloat16 where it is safe
            (torch.autocast). Checkpoints and validation do not depend on it.
        seed: Seed of weights, batches, augmentation and dropout.
        device: Device to train on, such as cpu or cuda.
        threads: CPU threads.
        readers: Threads that read batches ahead; 0 reads each batch when it is needed.
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
    """Training of the planner's perception network on recorded frames.

    Attributes:
        output: File to write the weights to (.safetensors), with a card beside it.
        robot: Name of the `RobotSpec` that the planner acts on.
        episodes: Folders with training episodes.
        held_out: Folders with episodes to measure the card's errors on.
        channels: Channels of the network's three convolutions; the last is also the number of
            keypoints.
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
    """Episodes to record on the stand-in robot.

    Attributes:
        output: Folder for the episodes.
        tasks: Names of tasks, each with `episodes` episodes.
        episodes: Episodes per task.
        first_seed: Seed of the first episode; episode i has the seed `first_seed + i`.
        behaviours: Share of episodes per behaviour; see `v2w_gym.standin.behaviours`.
        workers: Number of processes.
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
    """Training and validation of the success judge.

    Attributes:
        output: File to write the weights to (.safetensors), with a card beside it.
        episodes: Folders with training episodes.
        held_out: Folders with episodes to measure the card's accuracy on.
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
