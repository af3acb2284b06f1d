"""Settings of `v2w rollout` and `v2w action-control`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.model import SamplerSettings
from configs.rules import Frames, PathText, Range, Seed, Window, distinct
from configs.values import Settings


@dataclass(frozen=True)
class ImagineConfig(Settings):
    """Which world model imagines, and where it begins.

    Attributes:
        output: Folder for the results; the same command resumes there.
        checkpoint: World model: a file, or a hub id owner/name; null is the bundled one.
        preset: Sampler settings by name: draft, standard, faithful, clean or reference; null is
            what the checkpoint says.
        sampler: Single sampler settings that differ, such as sampler.steps=10.
        window: Most frames the world model looks at; null is what the checkpoint says.
        context_frames: Frames of the start it is shown first; null is what the checkpoint says.
        device: Where the network runs, such as cuda.
        start: Number of a bundled start, or a picture, video or recorded episode.
        fit: Cut and resize frames of another size than the robot's.
        task: What the robot attempts; null is the first task of the robot.
        seed: Seed of everything random, together with episode.
        episode: Number of the rollout with that seed.
    """

    output: PathText
    checkpoint: PathText | None = None
    preset: str | None = None
    sampler: SamplerSettings = field(default_factory=dict)
    window: Window | None = None
    context_frames: Window | None = None
    device: str = "cpu"
    start: Annotated[int, Range(0, 1_000_000)] | PathText = 0
    fit: bool = False
    task: str | None = None
    seed: Seed = 0
    episode: Seed = 0


@dataclass(frozen=True)
class RolloutConfig(ImagineConfig):
    """What is done in a rollout, and for how long.

    Attributes:
        actions: recorded replays those of the start's recording, held draws moves at random, idle
            does nothing; or the actions (N, A) of a .npy file, or those of another recording. What
            was recorded beyond the robot's bounds is clipped and counted.
        policy: Who acts instead, closed loop, until it ends the episode: a name, path or URL as
            `v2w rank` takes it; null for nobody.
        instruction: What the policy is told; null for what the task says.
        moves: Names of the moves that held draws from; null is all of the robot's.
        hold: Frames for which a drawn move is held.
        steps: Frames to imagine; null for as many as there are actions, or the task's horizon.
        mode: autoregressive imagines frame by frame, past the window too; clip all at once.
    """

    output: PathText = "runs/rollout"
    actions: PathText = "held"
    policy: PathText | None = None
    instruction: str | None = None
    moves: Annotated[list[str], distinct] | None = None
    hold: Frames = 10
    steps: Frames | None = None
    mode: str = "autoregressive"


@dataclass(frozen=True)
class ActionControlConfig(ImagineConfig):
    """How long each move of the robot is held, from the same start and with the same noise.

    Attributes:
        steps: Frames to imagine.
    """

    output: PathText = "runs/action_control"
    steps: Frames = 15
