"""Inference of a published checkpoint's robot and sizes from the shapes of its weights."""

import re
from collections.abc import Mapping
from dataclasses import replace

from v2w_gym.configs.model import (
    ClipConfig,
    ContextConfig,
    KLAutoencoderConfig,
    ResamplerConfig,
    UNetConfig,
    WorldModelConfig,
)
from v2w_gym.configs.names import lookup
from v2w_gym.configs.published import PUBLISHED, TextConfig
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.world_models.vid2world.published.layout import NETWORK, base_of
from v2w_gym.world_models.vid2world.published.weight_names import Shape

CLIP_HEADS = 16
RESAMPLER_HEAD_CHANNELS = 64
INITIAL_ATTENTION_HEADS = 8
"""Sizes that shapes do not show; equal in all published models."""
MOST_LAYERS = 1000
"""Most layers of one kind."""


def is_causal(shapes: Mapping[str, Shape]) -> bool:
    """Whether these are the weights of a Vid2World model, and not of its base model."""
    return any(".conv3d." in name for name in shapes)


def describe(
    shapes: Mapping[str, Shape], robot: str | None = None
) -> tuple[WorldModelConfig, TextConfig]:
    """Return the settings of a checkpoint: its robot's published model at the checkpoint's sizes.

    Args:
        shapes: Published name -> shape.
        robot: The expected robot; None infers it from the action layers.

    Returns:
        The settings of the model and of its text tower.

    Raises:
        KeyError: A weight that determines a size is missing.
        ValueError: An unknown robot, or another than that of the checkpoint.
    """
    name = _robot(shapes, robot)
    published = lookup(PUBLISHED, name, "robot")
    unet = describe_unet(shapes, published.unet)
    model = replace(
        published,
        kl_autoencoder=describe_autoencoder(shapes),
        context=_describe_context(shapes),
        unet=unet if is_causal(shapes) else base_of(unet),
    )
    return model, _describe_text(shapes)


def _robot(shapes: Mapping[str, Shape], wanted: str | None) -> str:
    """Return the robot of a checkpoint, which must be `wanted` unless that is None."""
    if not is_causal(shapes):
        if wanted is None:
            raise ValueError(
                "expected robot= for a base checkpoint, which has no action layers, found none; "
                f"name one of {sorted(PUBLISHED)}"
            )
        return wanted
    found = action_kind(shapes)
    kinds = {(m.unet.action_embedding, ROBOTS[n].action_size): n for n, m in PUBLISHED.items()}
    if found not in kinds:
        raise ValueError(f"expected action layers of {kinds}, found {found}")
    if wanted not in (None, kinds[found]):
        size = ROBOTS[lookup(PUBLISHED, str(wanted), "robot").robot].action_size
        raise ValueError(
            f"expected a checkpoint of robot {wanted!r} ({size} action values), found one of "
            f"{kinds[found]!r} ({found[1]} action values)"
        )
    return kinds[found]


def action_kind(shapes: Mapping[str, Shape]) -> tuple[str, int]:
    """Return the kind of a Vid2World model's action embedding, and the number of values."""
    table = shapes.get(NETWORK + "action_emb_preprocess.weight")
    if table is not None:
        return "table", table[0]
    return "linear", shapes[NETWORK + "action_emb_proj.0.weight"][1]


def describe_unet(shapes: Mapping[str, Shape], published: UNetConfig) -> UNetConfig:
    """Return the settings of a published network at the sizes of these weights."""
    channels = shapes[NETWORK + "input_blocks.0.0.weight"][0]
    widths: list[int] = []
    attention: list[int] = []
    blocks = level = 0
    for number in range(1, _count(shapes, NETWORK + r"input_blocks\.(\d+)\.")):
        place = f"{NETWORK}input_blocks.{number}."
        if place + "0.op.weight" in shapes:
            level += 1
            continue
        width = shapes[place + "0.out_layers.3.weight"][0]
        blocks += level == 0
        if len(widths) == level:
            widths.append(width // channels)
            if place + "1.proj_in.weight" in shapes:
                attention.append(2**level)
    middle = NETWORK + "middle_block.1.transformer_blocks.0."
    inner = shapes[NETWORK + "init_attn.0.proj_in.weight"][0]
    return replace(
        published,
        channels=channels,
        channel_multipliers=tuple(widths),
        blocks=blocks,
        attention_sizes=tuple(attention),
        head_channels=inner // INITIAL_ATTENTION_HEADS,
        context_channels=shapes[middle + "attn2.to_k.weight"][1],
    )


def describe_autoencoder(shapes: Mapping[str, Shape]) -> KLAutoencoderConfig:
    """Return the settings of the autoencoder with these weights."""
    place = "first_stage_model.encoder."
    channels = shapes[place + "conv_in.weight"][0]
    levels = _count(shapes, place.replace(".", r"\.") + r"down\.(\d+)\.")
    widths = [shapes[f"{place}down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    return KLAutoencoderConfig(
        channels=channels,
        channel_multipliers=tuple(width // channels for width in widths),
        blocks=_count(shapes, place.replace(".", r"\.") + r"down\.0\.block\.(\d+)\."),
        latent_channels=shapes["first_stage_model.post_quant_conv.weight"][0],
    )


def describe_resampler(
    shapes: Mapping[str, Shape], head_channels: int = RESAMPLER_HEAD_CHANNELS
) -> ResamplerConfig:
    """Return the settings of the resampler with these weights."""
    latents = shapes["image_proj_model.latents"]
    return ResamplerConfig(
        channels=latents[2],
        layers=_count(shapes, r"image_proj_model\.layers\.(\d+)\."),
        heads=shapes["image_proj_model.layers.0.0.to_q.weight"][0] // head_channels,
        head_channels=head_channels,
        hidden=shapes["image_proj_model.layers.0.1.1.weight"][0],
        tokens=latents[1],
        out_channels=shapes["image_proj_model.proj_out.weight"][0],
    )


def _describe_context(shapes: Mapping[str, Shape]) -> ContextConfig:
    return ContextConfig(
        clip=describe_clip(shapes, "embedder.model.visual."),
        resampler=describe_resampler(shapes),
        text_tokens=shapes["cond_stage_model.model.positional_embedding"][0],
    )


def describe_clip(shapes: Mapping[str, Shape], place: str, heads: int = CLIP_HEADS) -> ClipConfig:
    """Return the settings of the CLIP tower whose weights begin with `place`."""
    hidden, width = shapes[f"{place}transformer.resblocks.0.mlp.c_fc.weight"]
    layers = _count(shapes, place.replace(".", r"\.") + r"transformer\.resblocks\.(\d+)\.")
    return ClipConfig(width=width, layers=layers, heads=heads, hidden=hidden)


def _describe_text(shapes: Mapping[str, Shape]) -> TextConfig:
    place = "cond_stage_model.model."
    clip = describe_clip(shapes, place)
    return TextConfig(
        clip=replace(clip, layers=clip.layers - 1),
        vocabulary=shapes[place + "token_embedding.weight"][0],
        joint=shapes[place + "text_projection"][1],
    )


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """Return one more than the largest number that `pattern` finds in a name."""
    found = (re.match(pattern, name) for name in shapes)
    count = max((int(match[1]) + 1 for match in found if match), default=0)
    if count > MOST_LAYERS:
        raise ValueError(f"expected at most {MOST_LAYERS} layers of a kind, found {count}")
    return count
