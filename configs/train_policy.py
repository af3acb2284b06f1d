"""Settings of `v2w train-policy`."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from configs.rt1 import RT1Config
from configs.rules import (
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
    distinct,
)
from configs.values import Settings


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
            apart (`policies.instructions.embed`).
        stages: Name of each checkpoint that is kept, and when: a whole number is a step, a number
            with a point in (0, 1] a share of all steps.
        size: Name of the network's sizes; a key of `configs.rt1.RT1_SIZES`.
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
