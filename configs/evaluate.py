"""Settings of `v2w rank`, `v2w trials` and `v2w train-judge`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.model import SamplerSettings
from configs.rules import (
    Amount,
    BatchSize,
    LearningRate,
    PathText,
    Range,
    Seed,
    Steps,
    Threads,
    some,
)
from configs.values import Settings


def _tasks() -> list[str]:
    return ["close_drawer", "open_drawer"]


def _policies() -> list[str]:
    return ["zero", "random", "rt1-begin", "rt1-15", "rt1-converged"]


@dataclass(frozen=True)
class RankConfig(Settings):
    """Which policies are run in which world model, and what they are compared with.

    Attributes:
        output: Run folder; the same command resumes there.
        checkpoint: World model (.safetensors); None is the bundled one.
        preset: Sampler settings by name: draft, standard, faithful, clean or reference; null is
            what the checkpoint says.
        sampler: Single sampler settings that differ, such as sampler.steps=10.
        judge: Success judge (.safetensors); None is the bundled one.
        policies: Names or paths, as `policies.loading.make_policy` takes them.
        tasks: Which tasks; see `v2w_gym.tasks`.
        starts: Bundled starts per task.
        seeds: Rollouts per start, each with noise of its own.
        batch_size: Rollouts that run together; changes speed, memory and rounding in the frames.
        trials: Table of trials on the (stand-in) robot; None is the bundled one.
    """

    output: PathText = "runs/rank"
    checkpoint: PathText | None = None
    preset: str | None = None
    sampler: SamplerSettings = field(default_factory=dict)
    judge: PathText | None = None
    policies: list[PathText] = field(default_factory=_policies)
    tasks: Annotated[list[str], some] = field(default_factory=_tasks)
    starts: Amount = 30
    seeds: Annotated[int, Range(1, 10_000)] = 1
    batch_size: BatchSize = 16
    trials: PathText | None = None


@dataclass(frozen=True)
class TrialsConfig(Settings):
    """Which policies are tried on the stand-in robot.

    Attributes:
        output: Table (.csv); the same command resumes it.
        policies: Names or paths, as `policies.loading.make_policy` takes them.
        tasks: Which tasks; see `v2w_gym.tasks`.
        starts: Bundled starts per task; one trial each.
    """

    output: PathText = "runs/trials.csv"
    policies: list[PathText] = field(default_factory=_policies)
    tasks: Annotated[list[str], some] = field(default_factory=_tasks)
    starts: Amount = 60


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
