"""Settings of the world model: what is stored on a checkpoint's card and rebuilds the network."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class AutoencoderConfig:
    """The latent autoencoder (`world_models.vid2world.autoencoder`).

    Attributes:
        patch: Pixels are folded into channels by this factor before the first convolution.
        channels: Feature channels at the folded size and after one more halving.
        blocks: Residual blocks at each size.
        latent_channels: Channels of the latent (C).
    """

    patch: int = 4
    channels: tuple[int, int] = (64, 96)
    blocks: int = 2
    latent_channels: int = 8


@dataclass(frozen=True)
class UNetConfig:
    """The denoising network (`world_models.vid2world.unet`).

    Attributes:
        channels: Feature channels at the finest size.
        channel_multipliers: Per size, finest first; each next size halves height and width.
        blocks: Residual blocks per size on the way down (one more on the way up).
        attention_sizes: Downsampling factors at which transformers follow the residual blocks.
        head_channels: Channels per attention head.
        initial_attention: Whether a temporal transformer follows the first convolution.
        groups: Groups of every group normalisation.
        dropout: Dropout inside residual blocks and temporal convolutions.
        temporal_norm: `per_frame` keeps each frame's statistics to itself, which makes the network
            strictly causal; `pooled` shares them over the window, as the released weights do.
    """

    channels: int = 64
    channel_multipliers: tuple[int, ...] = (1, 2)
    blocks: int = 1
    attention_sizes: tuple[int, ...] = (2,)
    head_channels: int = 32
    initial_attention: bool = True
    groups: int = 16
    dropout: float = 0.0
    temporal_norm: str = "per_frame"


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule (`world_models.diffusion`); defaults are DynamiCrafter's.

    Attributes:
        noise_levels: Number of discrete levels (K).
        beta_start: First beta; betas are linear in their square roots.
        beta_end: Last beta, before the rescale to zero terminal signal-to-noise ratio.
        rescale_final: The signal is scaled by 1 at level 0, falling linearly to this ...
        rescale_levels: ... over this many levels (dynamic rescale); 1.0 switches it off.
    """

    noise_levels: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    rescale_final: float = 1.0
    rescale_levels: int = 400


@dataclass(frozen=True)
class SamplerConfig:
    """How the next frame is drawn (`world_models.sampler`).

    Attributes:
        steps: DDIM steps per frame.
        eta: 0 is deterministic given the first noise; 1 is as stochastic as DDPM.
        guidance_scale: Causal action guidance; 1 switches it off.
        guidance_rescale: Share by which the guided output gets the spread of the unguided one.
        history_noise_level: Noise level given to the frames that are known already.
    """

    steps: int = 4
    eta: float = 0.0
    guidance_scale: float = 1.0
    guidance_rescale: float = 0.0
    history_noise_level: int = 10


@dataclass(frozen=True)
class WorldModelConfig:
    """A whole world model.

    Attributes:
        robot: Name of the `RobotSpec` whose actions it understands.
        window: Most frames it looks at, the new one included.
        autoencoder: See `AutoencoderConfig`.
        unet: See `UNetConfig`.
        diffusion: See `DiffusionConfig`.
        sampler: See `SamplerConfig`.
    """

    robot: str = "standin_sawyer"
    window: int = 10
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    unet: UNetConfig = field(default_factory=UNetConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
