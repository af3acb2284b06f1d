"""Settings of `v2w train-planner`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainPlannerConfig:
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
    """

    output: str = "runs/train_planner/planner.safetensors"
    robot: str = "standin_sawyer"
    episodes: list[str] = field(default_factory=lambda: ["data/standin/train"])
    held_out: list[str] = field(default_factory=lambda: ["data/standin/held_out"])
    channels: tuple[int, ...] = (16, 32, 32)
    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 3e-3
    seed: int = 0
    threads: int = 1
