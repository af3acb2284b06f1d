"""The published models by robot, and settings to read their checkpoints or write similar ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from v2w_gym.configs.model import (
    ClipConfig,
    ContextConfig,
    DiffusionConfig,
    GeometryConfig,
    KLAutoencoderConfig,
    ResamplerConfig,
    UNetConfig,
    WorldModelConfig,
)
from v2w_gym.configs.robots import CSGO_PLAYER, GOOGLE_ROBOT, ROBOTS
from v2w_gym.configs.rules import PathText, Range, Seed, Size
from v2w_gym.configs.sampler import PRESETS
from v2w_gym.configs.values import Settings

_RT1 = WorldModelConfig(
    robot="google_robot",
    window=16,
    context_frames=1,
    raw_fields=tuple(GOOGLE_ROBOT.slices),
    first_action="zeros",
    condition_frame="oldest",
    kl_autoencoder=KLAutoencoderConfig(),
    context=ContextConfig(),
    geometry=GeometryConfig(resized=(320, 400)),
    unet=UNetConfig(
        channels=320,
        channel_multipliers=(1, 2, 4, 4),
        blocks=2,
        attention_sizes=(1, 2, 4),
        head_channels=64,
        initial_attention_heads=8,
        context_channels=1024,
        rate_embedding=True,
        output_conv="height_causal",
        groups=32,
        dropout=0.1,
        temporal_norm="pooled",
    ),
    diffusion=DiffusionConfig(rescale_final=0.7),
    sampler=PRESETS["clean"],
)

PUBLISHED: Mapping[str, WorldModelConfig] = {
    model.robot: model
    for model in (
        _RT1,
        replace(
            _RT1,
            robot="csgo_player",
            context_frames=4,
            raw_fields=tuple(CSGO_PLAYER.slices),
            geometry=GeometryConfig(resized=(275, 512)),
            unet=replace(_RT1.unet, action_embedding="table"),
        ),
        replace(
            _RT1,
            robot="recon_jackal",
            window=20,
            context_frames=4,
            raw_fields=("yaw_change",),
            geometry=GeometryConfig(resized=(320, 320)),
        ),
    )
}
"""Robot -> its published model at full size."""
HUB_IDS = {robot: f"thuml/Vid2World-{ROBOTS[robot].domain}" for robot in PUBLISHED}
"""Robot -> the hub id under which the authors of Vid2World publish its model."""


@dataclass(frozen=True)
class TextConfig(Settings):
    """The text tower of a published checkpoint, which runs once, at conversion.

    Attributes:
        clip: The tower, without its last block.
        vocabulary: Number of different tokens.
        joint: Channels of the space in which CLIP compares prompts with images.
    """

    clip: ClipConfig = field(
        default_factory=lambda: ClipConfig(width=1024, layers=23, heads=16, hidden=4096)
    )
    vocabulary: Annotated[int, Range(1, 1_000_000)] = 49408
    joint: Size = 1024


@dataclass(frozen=True)
class PublishedSize(Settings):
    """Sizes of the networks in a checkpoint of the published format.

    Attributes:
        kl_autoencoder: Its autoencoder.
        context: Its image tower and resampler.
        text: Its text tower.
        unet: Its denoising network; `of` sets the action embedding.
    """

    kl_autoencoder: KLAutoencoderConfig
    context: ContextConfig
    text: TextConfig
    unet: UNetConfig

    def of(self, model: WorldModelConfig) -> WorldModelConfig:
        """Return a published model at this size."""
        return replace(
            model,
            kl_autoencoder=self.kl_autoencoder,
            context=self.context,
            unet=replace(self.unet, action_embedding=model.unet.action_embedding),
        )


_SMALL_CLIP = ClipConfig(width=32, layers=1, heads=16, hidden=64)
SIZES: Mapping[str, PublishedSize] = {
    "full": PublishedSize(KLAutoencoderConfig(), ContextConfig(), TextConfig(), _RT1.unet),
    "tiny": PublishedSize(
        KLAutoencoderConfig(channels=32, channel_multipliers=(1, 1, 1, 1), blocks=1),
        ContextConfig(
            _SMALL_CLIP, ResamplerConfig(channels=32, layers=1, heads=1, hidden=64, out_channels=32)
        ),
        TextConfig(_SMALL_CLIP, vocabulary=8, joint=16),
        replace(
            _RT1.unet,
            channels=32,
            channel_multipliers=(1, 2),
            blocks=1,
            attention_sizes=(2,),
            head_channels=8,
            context_channels=32,
        ),
    ),
}
"""`full` is the published size; `tiny` runs in seconds, at the same picture size."""


@dataclass(frozen=True)
class RandomCheckpointConfig(Settings):
    """A checkpoint with random weights, in the published format.

    Attributes:
        output: File to write: `.ckpt` like the published files, or `.safetensors`.
        robot: Robot of the model: google_robot, csgo_player or recon_jackal.
        size: `tiny`, or `full` (10.4 GB).
        base: Whether to write a base model instead, as Vid2World starts from: not causal, and
            without actions.
        seed: Seed of the weights.
    """

    output: PathText
    robot: str = "google_robot"
    size: str = "tiny"
    base: bool = False
    seed: Seed = 0


@dataclass(frozen=True)
class ConvertConfig(Settings):
    """Conversion of a published checkpoint to this project's format.

    Attributes:
        checkpoint: Published file (.ckpt, .safetensors), index of a sharded one, folder, or hub id
            `owner/name[@revision][:file]`.
        output: File to write (.safetensors), with a card beside it.
        robot: Robot of the model; null to infer it from the action layers. A base model has none,
            so name the robot.
        precision: `float32`, or `bfloat16` for half the size, in which it also runs on a GPU; the
            autoencoder stays in float32.
        averaged: For a file with plain and averaged (EMA) weights: true takes the averaged ones,
            false the plain ones. Null takes those that the file's own framework would load.
        preset: Preset of the sampler on the card: `clean` or `reference`.
        transfer: For a base: `shift`, `masked` or `extrapolative` makes it causal.
        order: For a base: frames that `extrapolative` fits a line to.
        height_causal: For a base: whether to make the output convolution causal along image height,
            as the published loader does by mistake.
        seed: For a base: seed of the new action layers.
    """

    checkpoint: PathText
    output: PathText
    robot: str | None = None
    precision: str = "float32"
    averaged: bool | None = None
    preset: str = "clean"
    transfer: str | None = None
    order: Annotated[int, Range(1, 1000)] = 2
    height_causal: bool = False
    seed: Seed = 0
