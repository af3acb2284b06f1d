"""Settings of the world model. A checkpoint's card stores them, to rebuild the network."""

from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from v2w_gym.configs.rules import OneOf, Pixels, Range
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.configs.values import Settings

Channels: TypeAlias = Annotated[int, Range(1, 16_384)]
Hidden: TypeAlias = Annotated[int, Range(1, 65_536)]
Heads: TypeAlias = Annotated[int, Range(1, 1024)]
Layers: TypeAlias = Annotated[int, Range(0, 256)]
Blocks: TypeAlias = Annotated[int, Range(1, 64)]
Multiplier: TypeAlias = Annotated[int, Range(1, 64)]


@dataclass(frozen=True)
class AutoencoderConfig(Settings):
    """The latent autoencoder (`v2w_gym.world_models.vid2world.autoencoder`).

    Attributes:
        patch: Factor by which pixels are folded into channels before the first convolution.
        channels: Feature channels at the folded size and after one more halving.
        blocks: Residual blocks at each size.
        latent_channels: Channels of the latent (C).
    """

    patch: Multiplier = 4
    channels: tuple[Channels, Channels] = (64, 96)
    blocks: Annotated[int, Range(0, 64)] = 2
    latent_channels: Channels = 8


@dataclass(frozen=True)
class KLAutoencoderConfig(Settings):
    """Stable Diffusion's autoencoder (`v2w_gym.world_models.vid2world.kl_autoencoder`).

    Attributes:
        channels: Feature channels at full size.
        channel_multipliers: Per size, finest first; each next size halves height and width.
        blocks: Residual blocks per size on the way down (one more on the way up).
        latent_channels: Channels of the latent (C).
        scale: Factor that brings latents to unit spread.
    """

    channels: Channels = 128
    channel_multipliers: tuple[Multiplier, ...] = (1, 2, 4, 4)
    blocks: Blocks = 2
    latent_channels: Channels = 4
    scale: Annotated[float, Range(1e-6, 1e6)] = 0.18215


@dataclass(frozen=True)
class ClipConfig(Settings):
    """A CLIP tower; the defaults are ViT-H-14's image tower.

    Attributes:
        width: Channels of a token.
        layers: Number of transformer blocks.
        heads: Attention heads.
        hidden: Channels inside each block's feed-forward network.
    """

    width: Channels = 1280
    layers: Layers = 32
    heads: Heads = 16
    hidden: Hidden = 5120


@dataclass(frozen=True)
class ResamplerConfig(Settings):
    """The network that turns an image's CLIP tokens into the tokens that cross-attention reads.

    Attributes:
        channels: Channels inside.
        layers: Pairs of attention and feed-forward network.
        heads: Attention heads.
        head_channels: Channels per head.
        hidden: Channels inside each feed-forward network.
        tokens: Number of output tokens.
        out_channels: Channels of an output token.
    """

    channels: Channels = 1024
    layers: Layers = 4
    heads: Heads = 12
    head_channels: Channels = 64
    hidden: Hidden = 4096
    tokens: Channels = 256
    out_channels: Channels = 1024


@dataclass(frozen=True)
class ContextConfig(Settings):
    """The tokens of cross-attention: an empty prompt, and the conditioning frame through CLIP.

    Attributes:
        clip: The image tower.
        resampler: The network that reduces the tower's output to a few tokens.
        text_tokens: Length of the stored prompt embedding.
    """

    clip: ClipConfig = field(default_factory=ClipConfig)
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    text_tokens: Channels = 77


@dataclass(frozen=True)
class GeometryConfig(Settings):
    """Placement of a camera frame in the picture that the model works on.

    Attributes:
        resized: Height and width of the resized frame.
        canvas: Height and width of the whole picture; black bars fill the rest.
    """

    resized: tuple[Pixels, Pixels]
    canvas: tuple[Pixels, Pixels] = (320, 512)


@dataclass(frozen=True)
class UNetConfig(Settings):
    """The denoising network (`v2w_gym.world_models.vid2world.unet`).

    Attributes:
        channels: Feature channels at the finest size.
        channel_multipliers: Per size, finest first; each next size halves height and width.
        blocks: Residual blocks per size on the way down (one more on the way up).
        attention_sizes: Downsampling factors at which transformers follow the residual blocks.
        head_channels: Channels per attention head.
        initial_attention: Whether a temporal transformer follows the first convolution.
        initial_attention_heads: Its attention heads, of `head_channels` each; 0 for as many as
            `channels` has room for.
        context_channels: Channels of the tokens of cross-attention; 0 for no cross-attention.
        action_embedding: `linear` for continuous values, `table` for on-off ones, `none`.
        rate_embedding: Whether the network is conditioned on frames per second.
        causal: Whether temporal layers are causal; those of DynamiCrafter are not.
        output_conv: `plain`, or `height_causal`, a quirk of the published weights.
        groups: Groups of every group normalisation.
        dropout: Dropout inside residual blocks and temporal convolutions.
        temporal_norm: `per_frame` normalises each frame by its own statistics, which makes the
            network strictly causal. `pooled` shares statistics over the window, as the published
            weights do.
    """

    channels: Annotated[int, Range(2, 8192)] = 64
    channel_multipliers: tuple[Multiplier, ...] = (1, 2)
    blocks: Blocks = 1
    attention_sizes: tuple[Annotated[int, Range(1, 128)], ...] = (2,)
    head_channels: Channels = 32
    initial_attention: bool = True
    initial_attention_heads: Annotated[int, Range(0, 1024)] = 0
    context_channels: Annotated[int, Range(0, 16_384)] = 0
    action_embedding: Annotated[str, OneOf(("linear", "table", "none"))] = "linear"
    rate_embedding: bool = False
    causal: bool = True
    output_conv: Annotated[str, OneOf(("plain", "height_causal"))] = "plain"
    groups: Annotated[int, Range(1, 1024)] = 16
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    temporal_norm: Annotated[str, OneOf(("per_frame", "pooled"))] = "per_frame"


@dataclass(frozen=True)
class DiffusionConfig(Settings):
    """The noise schedule (`v2w_gym.world_models.diffusion`); defaults are DynamiCrafter's.

    Attributes:
        noise_levels: Number of discrete levels (K).
        beta_start: First beta; betas are linear in their square roots.
        beta_end: Last beta, before the rescale to zero terminal signal-to-noise ratio.
        rescale_final: Last scale of the dynamic rescale; 1.0 switches it off. The signal's scale
            falls linearly from 1 at level 0 to this value, and then stays there.
        rescale_levels: Number of levels over which the scale falls.
    """

    noise_levels: Annotated[int, Range(2, 100_000)] = 1000
    beta_start: Annotated[float, Range(1e-9, 0.999)] = 0.00085
    beta_end: Annotated[float, Range(1e-9, 0.999)] = 0.012
    rescale_final: Annotated[float, Range(1e-6, 1e6)] = 1.0
    rescale_levels: Annotated[int, Range(0, 100_000)] = 400


@dataclass(frozen=True)
class WorldModelConfig(Settings):
    """A whole world model.

    Attributes:
        robot: Name of the `RobotSpec` whose actions it understands.
        window: Most frames that it attends to, the new one included.
        context_frames: Recorded frames that a rollout begins with.
        raw_fields: Action fields that stay in the robot's own units. The others are scaled from
            the robot's bounds to [-1, 1].
        first_action: Action condition of a window's first frame. `hidden` is the action before it,
            masked if unknown; `zeros` is zeros, as in the published training code.
        condition_frame: The conditioning frame: the `start` of the rollout, or the `oldest` frame
            of the window.
        rate: Frames per second for the rate embedding, if the network has one.
        autoencoder: See `AutoencoderConfig`.
        kl_autoencoder: Replaces `autoencoder` if it is set.
        context: See `ContextConfig`.
        geometry: See `GeometryConfig`; null for frames at their own size.
        unet: See `UNetConfig`.
        diffusion: See `DiffusionConfig`.
        sampler: See `SamplerConfig`.
    """

    robot: str = "standin_sawyer"
    window: Annotated[int, Range(2, 4096)] = 10
    context_frames: Annotated[int, Range(1, 4095)] = 1
    raw_fields: tuple[str, ...] = ()
    first_action: Annotated[str, OneOf(("hidden", "zeros"))] = "hidden"
    condition_frame: Annotated[str, OneOf(("start", "oldest"))] = "start"
    rate: Annotated[int, Range(0, 10_000)] = 3
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    kl_autoencoder: KLAutoencoderConfig | None = None
    context: ContextConfig | None = None
    geometry: GeometryConfig | None = None
    unet: UNetConfig = field(default_factory=UNetConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
