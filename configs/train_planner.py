"""Settings of `v2w train-planner`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.rules import BatchSize, LearningRate, PathText, Range, Seed, Steps, Threads, some
from configs.values import Settings


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
