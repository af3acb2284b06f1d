"""Settings of `v2w fidelity`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.model import SamplerSettings
from configs.rules import (
    Amount,
    BatchSize,
    FileName,
    Frames,
    PathText,
    Seed,
    Threads,
    Window,
    distinct,
)
from configs.values import Settings


@dataclass(frozen=True)
class FidelityConfig(Settings):
    """Which ways of sampling are held against a baseline, and on which rollouts.

    Attributes:
        output: Folder for the results; the same command resumes there.
        checkpoint: World model: a file, or a hub id owner/name; null is the bundled one.
        preset: Sampler settings of the baseline by name; null is what the checkpoint says.
        sampler: Single sampler settings of the baseline that differ, such as sampler.steps=10.
        candidates: Name -> name of a preset, or `card` for what the checkpoint says, or sampler
            settings that differ from the baseline's, as in 'candidates={fast: {steps: 10}}'; empty
            for draft, standard and card.
        window: Most frames the world model looks at; null is what the checkpoint says.
        context_frames: Frames of a start it is shown first; null is what the checkpoint says.
        device: Where the network runs, such as cuda.
        episodes: Folders with recorded episodes to replay, our own or .npz files of Vid2World's
            converter; empty for bundled starts with moves drawn at random, as
            `v2w rollout actions=held` draws them.
        task: What the robot attempts; null is the first task of the robot.
        limit: Rollouts, at least 2: the first episodes, or the first starts.
        steps: Frames to imagine in each; null for the task's horizon.
        batch_size: Rollouts that run together; changes speed, memory and rounding in the frames.
        horizons: After how many frames errors are listed; those beyond steps are left out.
        seed: Seed of moves and noise; the floor, which is the baseline again, uses the next one.
        policies: Policies that act in closed loop, as `v2w rank` takes them; may be empty.
        starts: Bundled starts of the task in closed loop.
        judge: Success judge (.safetensors); null is the bundled one.
        threads: CPU threads; with more than one, threads that wait for each other count as busy.
    """

    output: PathText = "runs/fidelity"
    checkpoint: PathText | None = None
    preset: str | None = "faithful"
    sampler: SamplerSettings = field(default_factory=dict)
    candidates: dict[FileName, str | SamplerSettings] = field(default_factory=dict)
    window: Window | None = None
    context_frames: Window | None = None
    device: str = "cpu"
    episodes: Annotated[list[PathText], distinct] = field(default_factory=list)
    task: str | None = None
    limit: Amount = 8
    steps: Frames | None = None
    batch_size: BatchSize = 16
    horizons: Annotated[list[Frames], distinct] = field(default_factory=lambda: [1, 4, 16, 64])
    seed: Seed = 0
    policies: list[PathText] = field(default_factory=list)
    starts: Amount = 15
    judge: PathText | None = None
    threads: Threads = 1
