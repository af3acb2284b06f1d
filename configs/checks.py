"""Settings of `v2w bench`, `v2w fidelity` and `v2w parity`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.published import PUBLISHED
from v2w_gym.configs.rules import (
    Amount,
    BatchSize,
    FileName,
    Frames,
    OneOf,
    PathText,
    Range,
    Seed,
    Threads,
    distinct,
    some,
)
from v2w_gym.configs.sampler import PRESET_NAMES, SamplerConfig, SamplerSettings
from v2w_gym.configs.values import Settings
from v2w_gym.configs.world_model import WorldModelSettings

_FULL = PUBLISHED["google_robot"]
BENCH_SIZES: Mapping[str, WorldModelConfig] = {
    "tiny": WorldModelConfig(
        autoencoder=AutoencoderConfig(channels=(16, 16), blocks=1, latent_channels=4),
        unet=UNetConfig(
            channels=16, channel_multipliers=(1,), attention_sizes=(1,), head_channels=8, groups=4
        ),
    ),
    "small": WorldModelConfig(unet=UNetConfig(channels=48, groups=8)),
    "full": replace(
        _FULL, condition_frame="start", unet=replace(_FULL.unet, temporal_norm="per_frame")
    ),
}
"""`full` is the published network with norms per frame and a conditioning frame that stays."""

BENCH_SAMPLER = SamplerConfig(guidance_scale=2.5, guidance_rescale=0.7, history_noise_level=39)
"""Guided as the published models are; all that is left to set is `steps` and `history`."""

SEMANTICS: Mapping[str, tuple[str, str]] = {
    "rolling": ("per_frame", "rolling"),
    "window": ("per_frame", "window"),
    "pooled": ("pooled", "window"),
    "frozen": ("pooled", "frozen"),
}
"""What a step may mean: the network's `temporal_norm` and the sampler's `history`."""
APPROXIMATE = ("frozen",)
"""Those of them that are not meant to be exact."""


@dataclass(frozen=True)
class BenchConfig(Settings):
    """What is measured, and on which model.

    Attributes:
        what: What is measured: step, one step of the environment.
        json: Print one JSON object instead of tables.
        quick: Only 1 and 8 environments at 10 steps, each timed few times, without every and
            horizon.
        output: File that gets the JSON too; null for none.
        checkpoint: World model whose weights are measured, with the window, the guidance and the
            conditioning frame of this benchmark, not its own; null is one with random weights.
        size: Its size where weights are random: small is the bundled model's network, full the
            published one, which needs a GPU, and tiny is for tests.
        seed: Seed of random weights.
        window: Most frames the model looks at (T).
        device: Where the network runs, such as cuda.
        precision: What it is timed in: float32, or bfloat16 on a GPU. Exactness is always checked
            in float32.
        semantics: Which kinds of step: rolling and window for norms per frame, pooled and frozen
            for norms pooled over the window; a model gets the norms that its semantics needs. Null
            is both of those of the model's own norms, and all four at size full.
        nums: Numbers of environments that step together.
        steps: Numbers of denoising steps.
        repeats: How often steps and the baseline take turns; the least time counts.
        latency: Single steps of one environment for the percentiles of latency.
        every: Whether exactness is checked at every step of a rollout; otherwise where something
            changes.
        horizon: Whether steps at frame 2T are compared with steps at frame 20T.
        threads: CPU threads. With more than one, threads that wait for each other burn the very
            processor time that is measured.
    """

    what: Annotated[str, OneOf(("step",))] = "step"
    json: bool = False
    quick: bool = False
    output: PathText | None = None
    checkpoint: PathText | None = None
    size: Annotated[str, OneOf(tuple(BENCH_SIZES))] = "small"
    seed: Seed = 0
    window: Annotated[int, Range(4, 4096)] = 16
    device: str = "cpu"
    precision: Annotated[str, OneOf(("float32", "bfloat16"))] = "float32"
    semantics: Annotated[list[Annotated[str, OneOf(tuple(SEMANTICS))]], some] | None = None
    nums: Annotated[list[Annotated[int, Range(1, 4096)]], some] = field(
        default_factory=lambda: [1, 2, 4, 8]
    )
    steps: Annotated[list[Annotated[int, Range(1, 1000)]], some] = field(
        default_factory=lambda: [50, 10, 4]
    )
    repeats: Annotated[int, Range(1, 1000)] = 3
    latency: Annotated[int, Range(1, 100_000)] = 100
    every: bool = True
    horizon: bool = True
    threads: Threads = 1


@dataclass(frozen=True)
class FidelityConfig(WorldModelSettings):
    """Which ways of sampling are compared with a baseline, and on which rollouts.

    Attributes:
        output: Folder for the results; the same command resumes there.
        preset: Sampler settings of the baseline by name; null is what the checkpoint says.
        sampler: Single sampler settings of the baseline that differ, such as sampler.steps=10.
        candidates: Name -> name of a preset, or `card` for what the checkpoint says, or sampler
            settings that differ from the baseline's, as in 'candidates={fast: {steps: 10}}'; empty
            for draft, standard and card.
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
    preset: Annotated[str, OneOf(PRESET_NAMES)] | None = "faithful"
    candidates: dict[FileName, str | SamplerSettings] = field(default_factory=dict)
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


@dataclass(frozen=True)
class ParityConfig(Settings):
    """Which reference test vectors this implementation is compared with.

    Attributes:
        folder: Folder of vectors, each a `<vector>.json` and a `<vector>.safetensors`.
        threads: CPU threads.
    """

    folder: PathText
    threads: Threads = 1
