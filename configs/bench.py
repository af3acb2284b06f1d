"""Settings of `v2w bench`, and the models with random weights that it measures."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from configs.model import AutoencoderConfig, SamplerConfig, UNetConfig, WorldModelConfig
from configs.released import RELEASED
from configs.rules import PathText, Range, Seed, Threads, Window, distinct
from configs.values import Settings

_FULL = RELEASED["google_robot"]
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
        repeats: How often both arms take turns; the least time counts.
        latency: Single steps of one environment for the percentiles of latency.
        every: Whether exactness is checked at every step of a rollout; otherwise where something
            changes.
        horizon: Whether steps at frame 2T are held against steps at frame 20T.
        threads: CPU threads. With more than one, threads that wait for each other burn the very
            processor time that is measured.
    """

    what: str = "step"
    json: bool = False
    quick: bool = False
    output: PathText | None = None
    checkpoint: PathText | None = None
    size: str = "small"
    seed: Seed = 0
    window: Window = 16
    device: str = "cpu"
    precision: str = "float32"
    semantics: Annotated[list[str], distinct] | None = None
    nums: Annotated[list[Annotated[int, Range(1, 4096)]], distinct] = field(
        default_factory=lambda: [1, 2, 4, 8]
    )
    steps: Annotated[list[Annotated[int, Range(1, 1000)]], distinct] = field(
        default_factory=lambda: [50, 10, 4]
    )
    repeats: Annotated[int, Range(1, 1000)] = 3
    latency: Annotated[int, Range(1, 100_000)] = 100
    every: bool = True
    horizon: bool = True
    threads: Threads = 1
