"""Settings of `v2w bench`, `v2w bench data`, `v2w fidelity` and `v2w parity`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from v2w_gym.configs.model import AutoencoderConfig, UNetConfig, WorldModelConfig
from v2w_gym.configs.names import check_file_name
from v2w_gym.configs.published import PUBLISHED
from v2w_gym.configs.rules import (
    Amount,
    BatchSize,
    Frames,
    OneOf,
    PathText,
    Range,
    Seed,
    Threads,
    Window,
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
"""`full` is the published network with per-frame norms and a fixed conditioning frame."""

BENCH_SAMPLER = SamplerConfig(guidance_scale=2.5, guidance_rescale=0.7, history_noise_level=39)
"""The published models' guidance; the benchmark sets `steps` and `history`."""

SEMANTICS: Mapping[str, tuple[str, str]] = {
    "rolling": ("per_frame", "rolling"),
    "window": ("per_frame", "window"),
    "pooled": ("pooled", "window"),
    "frozen": ("pooled", "frozen"),
}
"""Kinds of step: the network's `temporal_norm` and the sampler's `history`."""
APPROXIMATE = ("frozen",)
"""Kinds of step that approximate the exact one."""

BASELINE, FLOOR = "baseline", "another_seed"
"""What `v2w fidelity` calls the sampler that others are compared with, and its floor."""


def candidate_name(name: str) -> str:
    """Return a name that a candidate of `v2w fidelity` can have, and its folder.

    Raises:
        ValueError: The name of no folder, or that of the baseline or the floor.
    """
    if name in (BASELINE, FLOOR):
        raise ValueError(
            f"expected a candidate's name other than {BASELINE} and {FLOOR}, found {name!r}"
        )
    return check_file_name(name)


@dataclass(frozen=True)
class BenchConfig(Settings):
    """A benchmark, and the model that it measures.

    Attributes:
        what: The benchmark; step measures one step of the environment.
        json: Print one JSON object instead of tables.
        quick: Measure only 1 and 8 environments at 10 steps, with few repeats, and check
            exactness only where something changes in a rollout.
        checkpoint: World model to measure; null is one with random weights. The benchmark sets its
            window, guidance and conditioning frame.
        size: Size of a network with random weights. small is the bundled model's network; full is
            the published one, which needs a GPU; tiny is for tests.
        seed: Seed of the random weights.
        window: Most frames that the model attends to (T).
        device: Device of the network, such as cuda.
        precision: Precision of the timed steps: float32, or bfloat16 on a GPU. Exactness is always
            checked in float32.
        semantics: Kinds of step to measure. rolling and window run the model with per-frame norms,
            pooled and frozen with norms pooled over the window. Null is the two kinds of the
            model's own norms, and all four at size full.
        nums: Numbers of environments that step together.
        steps: Numbers of denoising steps.
        repeats: How often the steps and the baseline are timed, in turn; the least time counts.
        latency: Number of single steps of one environment that latency percentiles are taken over.
        threads: CPU threads. With more than one, waiting threads add to the measured processor
            time.
    """

    what: Annotated[str, OneOf(("step",))] = "step"
    json: bool = False
    quick: bool = False
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
    threads: Threads = 1


@dataclass(frozen=True)
class DataBenchConfig(Settings):
    """A benchmark of loading, which takes turns with the bare decoding of the same pictures.

    Attributes:
        data: Prepared data; null makes 40 episodes of 40 frames, of the Google robot's size.
        json: Print one JSON object instead of tables.
        quick: Measure one short round.
        workers: Processes that read, and as many that decode.
        batch_size: Clips per batch.
        clip_frames: Frames per clip (T).
        batches: Batches in each round, one eighth of them with augmentation.
        rounds: How often both take turns; the median counts.
        seed: Seed of the order of the clips.
    """

    data: PathText | None = None
    json: bool = False
    quick: bool = False
    workers: Threads = 2
    batch_size: BatchSize = 4
    clip_frames: Window = 16
    batches: Annotated[int, Range(4, 100_000)] = 96
    rounds: Annotated[int, Range(1, 1000)] = 5
    seed: Seed = 0


@dataclass(frozen=True)
class FidelityConfig(WorldModelSettings):
    """Sampler settings to compare with a baseline, and the rollouts to compare them on.

    Attributes:
        output: Folder for the results; the same command resumes there.
        preset: Name of the baseline's sampler settings; null is the checkpoint's own.
        sampler: Changes to single settings of the baseline, such as sampler.steps=10.
        candidates: Name -> a preset, `card` for the checkpoint's own settings, or changes to the
            baseline, as in 'candidates={fast: {steps: 10}}'; empty for draft, standard and card.
        episodes: Folders with recorded episodes to replay: our own, or .npz files of Vid2World's
            converter. If empty, rollouts begin at bundled starts and take random moves, as
            `v2w rollout actions=held` does.
        task: Task that the robot attempts; null is its first.
        limit: Rollouts, at least 2: the first episodes, or the first starts.
        steps: Frames to imagine in each; null for the task's horizon.
        batch_size: Rollouts that run together; changes speed, memory and rounding in the frames.
        horizons: Numbers of frames after which errors are listed, up to steps; the last always is.
        seed: Seed of moves and noise. The floor repeats the baseline with the next seed.
        policies: Policies that act in closed loop, named as for `v2w rank`; may be empty.
        starts: Bundled starts of the task in closed loop.
        judge: Success judge (.safetensors); null is the bundled one.
        threads: CPU threads; with more than one, waiting threads count as busy.
    """

    output: PathText = "runs/fidelity"
    preset: Annotated[str, OneOf(PRESET_NAMES)] | None = "faithful"
    candidates: dict[Annotated[str, candidate_name], str | SamplerSettings] = field(
        default_factory=dict
    )
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
    """Reference test vectors to compare this implementation with.

    Attributes:
        folder: Folder of vectors, each a `<vector>.json` and a `<vector>.safetensors`.
        threads: CPU threads.
    """

    folder: PathText
    threads: Threads = 1
