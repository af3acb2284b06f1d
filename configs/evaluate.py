"""Settings of `v2w rank`, `v2w trials` and `v2w train-judge`."""

from dataclasses import dataclass, field
from typing import Any


def _tasks() -> list[str]:
    return ["close_drawer", "open_drawer"]


def _policies() -> list[str]:
    return ["zero", "random", "rt1-begin", "rt1-15", "rt1-converged"]


@dataclass(frozen=True)
class RankConfig:
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

    output: str = "runs/rank"
    checkpoint: str | None = None
    preset: str | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    judge: str | None = None
    policies: list[str] = field(default_factory=_policies)
    tasks: list[str] = field(default_factory=_tasks)
    starts: int = 30
    seeds: int = 1
    batch_size: int = 16
    trials: str | None = None


@dataclass(frozen=True)
class TrialsConfig:
    """Which policies are tried on the stand-in robot.

    Attributes:
        output: Table (.csv); the same command resumes it.
        policies: Names or paths, as `policies.loading.make_policy` takes them.
        tasks: Which tasks; see `v2w_gym.tasks`.
        starts: Bundled starts per task; one trial each.
    """

    output: str = "runs/trials.csv"
    policies: list[str] = field(default_factory=_policies)
    tasks: list[str] = field(default_factory=_tasks)
    starts: int = 60


@dataclass(frozen=True)
class JudgeTrainConfig:
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
    """

    output: str = "runs/judge/judge.safetensors"
    episodes: list[str] = field(default_factory=lambda: ["data/standin/train"])
    held_out: list[str] = field(default_factory=lambda: ["data/standin/held_out"])
    steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0
    threads: int = 1
