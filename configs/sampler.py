"""Settings of the sampler, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

from v2w_gym.configs.names import lookup
from v2w_gym.configs.rules import Range, Share, SomeOf
from v2w_gym.configs.values import Settings

NoiseLevel: TypeAlias = Annotated[int, Range(0, 99_999)]
"""A level of a noise schedule; how many there are is checked where the schedule is known."""


@dataclass(frozen=True)
class SamplerConfig(Settings):
    """How the next frame is sampled (`v2w_gym.world_models.sampler`, and `solvers` beside it).

    Attributes:
        solver: Key of `v2w_gym.world_models.solvers.SOLVERS`: `ddim`, or `dpm++` or `unipc`, which
            need fewer steps.
        steps: Denoising steps per frame.
        eta: 0 is deterministic given the first noise; 1 is as stochastic as DDPM, with ddim only.
        guidance_scale: Causal action guidance; 1 switches it off.
        guidance_rescale: Share by which the guided output gets the spread of the unguided one.
        history_noise_level: Noise level of the history frames; null for the last but one of the
            steps' levels, which grows as steps shrink.
        rescale_history: Whether history frames get the scale their noise level had in training.
        finish_clean: Whether the last step ends at the clean latent at scale 1, not at level 0.
        sample_latents: Whether recorded frames are encoded to a random draw, not to the mean.
        own_context: Whether the unconditional branch reads the conditioning frame as the
            autoencoder reconstructs it, not as it is.
        reencode: Whether a window that slides is decoded and encoded again.
        clip_keep: When a whole clip is sampled, the share of actions that the unconditional branch
            keeps at random.
        history: `window` conditions on the last frames alone, which is exact. `rolling` keeps a KV
            cache that reaches back further, for per-frame norms. `frozen` freezes the statistics
            of pooled norms during a frame, an approximation.
    """

    solver: str = "ddim"
    steps: Annotated[int, Range(1, 1000)] = 4
    eta: Share = 0.0
    guidance_scale: Annotated[float, Range(0, 100)] = 1.0
    guidance_rescale: Share = 0.0
    history_noise_level: NoiseLevel | None = 10
    rescale_history: bool = True
    finish_clean: bool = True
    sample_latents: bool = False
    own_context: bool = False
    reencode: bool = False
    clip_keep: Share = 0.0
    history: str = "window"


SamplerSettings: TypeAlias = Annotated[dict[str, Any], SomeOf(SamplerConfig)]
"""Sampler settings that differ from others, by name."""

_PUBLISHED = SamplerConfig(
    steps=50, eta=1.0, guidance_scale=2.5, guidance_rescale=0.7, history_noise_level=39
)
PRESETS: Mapping[str, SamplerConfig] = {
    "clean": _PUBLISHED,
    "reference": replace(
        _PUBLISHED,
        history_noise_level=None,
        rescale_history=False,
        finish_clean=False,
        sample_latents=True,
        own_context=True,
        reencode=True,
        clip_keep=0.8,
    ),
}
"""For the published weights: `reference` does what the official code does, quirks included."""
PRESET_NAMES = ("draft", "standard", "faithful", *PRESETS)
"""What `preset_sampler` knows."""


def preset_sampler(name: str, own: SamplerConfig, temporal_norm: str) -> SamplerConfig:
    """Return the sampler that a preset means for a checkpoint with a sampler of its `own`.

    | preset | for | how |
    |---|---|---|
    | `draft` | a first look | 8 UniPC steps or fewer; history `rolling` or `frozen` |
    | `standard` | everyday use | 12 UniPC steps |
    | `faithful` | measuring the other two | 50 DDIM steps |
    | `clean` | published weights, for 50 steps with noise | `PRESETS` |
    | `reference` | comparing with the official code | `PRESETS` |

    The first three change the checkpoint's own sampler and keep guidance and the history noise
    level, which belong to the weights. `draft` and `standard` set eta to 0. A draft never takes
    more steps than the checkpoint asks for. The last two replace the sampler.

    Args:
        name: Name of the preset.
        own: The checkpoint's sampler.
        temporal_norm: See `UNetConfig.temporal_norm`.

    Raises:
        ValueError: An unknown name.
    """
    cached = "rolling" if temporal_norm == "per_frame" else "frozen"
    few = replace(own, solver="unipc", steps=12, eta=0.0, history="window")
    presets = {
        "draft": replace(few, steps=min(8, own.steps), history=cached),
        "standard": few,
        "faithful": replace(own, solver="ddim", steps=50, history="window"),
        **PRESETS,
    }
    return lookup(presets, name, "preset")
