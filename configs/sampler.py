"""Settings of the sampler, and its presets."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeAlias

from v2w_gym.configs.names import lookup
from v2w_gym.configs.rules import Range, Share, SomeOf
from v2w_gym.configs.values import Settings

NoiseLevel: TypeAlias = Annotated[int, Range(0, 99_999)]
"""A level of a noise schedule; the sampler checks it against the schedule's length."""


@dataclass(frozen=True)
class SamplerConfig(Settings):
    """The sampler of the next frame (`v2w_gym.world_models.sampler` and `solvers`).

    Attributes:
        solver: Key of `v2w_gym.world_models.solvers.SOLVERS`. `dpm++` and `unipc` need fewer steps
            than `ddim`.
        steps: Denoising steps per frame.
        eta: 0 is deterministic given the initial noise; 1, for ddim only, is as stochastic as DDPM.
        guidance_scale: Causal action guidance; 1 switches it off.
        guidance_rescale: Degree (phi) to which the guided output takes the standard deviation of
            the conditional one.
        history_noise_level: Noise level of the history frames. Null is the second to last level of
            the steps, which is higher for fewer steps.
        rescale_history: Whether history frames are scaled as training scaled their noise level.
        finish_clean: Whether the last step ends at the clean latent at scale 1, and not at level 0.
        sample_latents: Whether recorded frames are encoded to a sample of the posterior, and not to
            its mean.
        own_context: Whether the unconditional branch reads the autoencoder's reconstruction of the
            conditioning frame, and not the frame itself.
        reencode: Whether the frames of a sliding window are decoded and encoded again.
        clip_keep: Share of actions that the unconditional branch keeps, at random, when a whole
            clip is sampled.
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
"""Changes to some sampler settings, by name."""

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
"""Presets for the published weights; `reference` reproduces the official code and its quirks."""
PRESET_NAMES = ("draft", "standard", "faithful", *PRESETS)
"""The presets of `preset_sampler`."""


def preset_sampler(name: str, own: SamplerConfig, temporal_norm: str) -> SamplerConfig:
    """Return the sampler of a preset for a checkpoint whose own sampler is `own`.

    | preset | for | how |
    |---|---|---|
    | `draft` | a first look | 8 UniPC steps or fewer; history `rolling` or `frozen` |
    | `standard` | everyday use | 12 UniPC steps |
    | `faithful` | measuring the other two | 50 DDIM steps |
    | `clean` | published weights, for 50 steps with noise | `PRESETS` |
    | `reference` | comparing with the official code | `PRESETS` |

    The first three change the checkpoint's own sampler, but keep its guidance and history noise
    level, which belong to the weights. `draft` and `standard` set eta to 0. `draft` never takes
    more steps than the checkpoint's sampler. The last two replace the sampler.

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
