"""The table from our names of weights to those in the published checkpoints."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from v2w_gym.configs.model import ClipConfig
from v2w_gym.world_models.vid2world.clip_towers import TEXT_LENGTH

Shape: TypeAlias = tuple[int, ...]
_Rules: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """The source of one of our weights in a published checkpoint.

    Attributes:
        name: Its name there.
        shape: Its shape there.
        part: Index of our third of its rows, if it stacks query, key and value; else None.
    """

    name: str
    shape: Shape
    part: int | None = None

    def take(self, published: Tensor, shape: Shape) -> Tensor:
        """Return our weight in our shape; it shares the published one's memory."""
        ours = published if self.part is None else published.chunk(3)[self.part]
        return ours.reshape(shape)


_OUTSIDE: Mapping[str, str] = {
    "noise_embedding.hidden": "time_embed.0",
    "noise_embedding.out": "time_embed.2",
    "rate_embedding.hidden": "fps_embedding.0",
    "rate_embedding.out": "fps_embedding.2",
    "action_embedding.table": "action_emb_preprocess",
    "action_embedding.layers.0": "action_emb_proj.0",
    "action_embedding.layers.2": "action_emb_proj.2",
    "action_embedding.layers.4": "action_emb_proj.4",
    "conv_in": "input_blocks.0.0",
    "norm_out": "out.0",
    "conv_out": "out.2.conv2d",
}
"""Layers outside the blocks."""

_PLACES: tuple[tuple[str, str], ...] = (
    (r"initial_attention", "init_attn.0"),
    (r"down\.(\d+)\.res", "input_blocks.{next}.0"),
    (r"down\.(\d+)\.spatial", "input_blocks.{next}.1"),
    (r"down\.(\d+)\.temporal", "input_blocks.{next}.2"),
    (r"down\.(\d+)", "input_blocks.{next}.0"),
    (r"middle\.0\.res", "middle_block.0"),
    (r"middle\.0\.spatial", "middle_block.1"),
    (r"middle\.0\.temporal", "middle_block.2"),
    (r"middle\.1\.res", "middle_block.3"),
    (r"up\.(\d+)\.res", "output_blocks.{same}.0"),
    (r"up\.(\d+)\.spatial", "output_blocks.{same}.1"),
    (r"up\.(\d+)\.temporal", "output_blocks.{same}.2"),
    (r"up\.(\d+)", "output_blocks.{same}.{last}"),
)
"""Our name of a block -> the published one; the first match counts.

`same` is the block's number here, `next` the one after, `last` the index after its transformers.
"""

_LAYERS: Mapping[str, str] = {
    "conv": "op",
    "upsample": "conv",
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "embed": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "skip": "skip_connection",
    "temporal.norms.0.norm": "temopral_conv.conv1.0",
    "temporal.norms.1.norm": "temopral_conv.conv2.0",
    "temporal.norms.2.norm": "temopral_conv.conv3.0",
    "temporal.norms.3.norm": "temopral_conv.conv4.0",
    "temporal.convs.0.conv": "temopral_conv.conv1.2.conv3d",
    "temporal.convs.1.conv": "temopral_conv.conv2.3.conv3d",
    "temporal.convs.2.conv": "temopral_conv.conv3.3.conv3d",
    "temporal.convs.3.conv": "temopral_conv.conv4.3.conv3d",
    "norm": "norm",
    "norm.norm": "norm",
    "project_in": "proj_in",
    "project_out": "proj_out",
    "block.norm1": "transformer_blocks.0.norm1",
    "block.norm2": "transformer_blocks.0.norm2",
    "block.norm3": "transformer_blocks.0.norm3",
    "block.attention.to_q": "transformer_blocks.0.attn1.to_q",
    "block.attention.to_k": "transformer_blocks.0.attn1.to_k",
    "block.attention.to_v": "transformer_blocks.0.attn1.to_v",
    "block.attention.to_out": "transformer_blocks.0.attn1.to_out.0",
    "block.second.to_q": "transformer_blocks.0.attn2.to_q",
    "block.second.to_k": "transformer_blocks.0.attn2.to_k",
    "block.second.to_v": "transformer_blocks.0.attn2.to_v",
    "block.second.text_k": "transformer_blocks.0.attn2.to_k",
    "block.second.text_v": "transformer_blocks.0.attn2.to_v",
    "block.second.image_k": "transformer_blocks.0.attn2.to_k_ip",
    "block.second.image_v": "transformer_blocks.0.attn2.to_v_ip",
    "block.second.to_out": "transformer_blocks.0.attn2.to_out.0",
    "block.feed_forward.project": "transformer_blocks.0.ff.net.0.proj",
    "block.feed_forward.out": "transformer_blocks.0.ff.net.2",
}
"""Layers of any block."""

_CAUSAL_CHILDREN = (".conv3d", ".conv2d")
"""Names of the convolution inside a causal one; base checkpoints have none."""


_CLIP_RULES: _Rules = (
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.self_attn\.[qkv]_proj\.", ".attn.in_proj_"),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"^position_embedding$", "positional_embedding"),
)
_TOWERS: Mapping[str, tuple[str, _Rules]] = {
    "autoencoder.vae.": (
        "first_stage_model.",
        (
            (r"\.(down|up)_blocks\.(\d+)\.resnets\.", r".\1.\2.block."),
            (r"\.down_blocks\.(\d+)\.downsamplers\.0\.", r".down.\1.downsample."),
            (r"\.up_blocks\.(\d+)\.upsamplers\.0\.", r".up.\1.upsample."),
            (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
            (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
            (r"\.conv_shortcut\.", ".nin_shortcut."),
            (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
            (r"\.attn_1\.group_norm\.", ".attn_1.norm."),
            (r"\.attn_1\.to_([qkv])\.", r".attn_1.\1."),
            (r"\.attn_1\.to_out\.0\.", ".attn_1.proj_out."),
            (r"\.conv_norm_out\.", ".norm_out."),
        ),
    ),
    "image_tower.": (
        "embedder.model.visual.",
        (*_CLIP_RULES, (r"^patch_embedding\.", "conv1."), (r"^norm\.", "ln_pre.")),
    ),
    "text_tower.": (
        "cond_stage_model.model.",
        (*_CLIP_RULES, (r"^norm\.", "ln_final.")),
    ),
    "resampler.": (
        "image_proj_model.",
        (
            (r"^project_(in|out)\.", r"proj_\1."),
            (r"^norm\.", "norm_out."),
            (r"^layers\.(\d+)\.norm_tokens\.", r"layers.\1.0.norm1."),
            (r"^layers\.(\d+)\.norm_latents\.", r"layers.\1.0.norm2."),
            (r"^layers\.(\d+)\.to_", r"layers.\1.0.to_"),
            (r"^layers\.(\d+)\.feed_forward\.", r"layers.\1.1."),
        ),
    ),
}
"""Our prefix -> the published one, and ordered replacements in the rest of the name."""


_BLOCK: Mapping[str, tuple[str, ...]] = {
    "ln_1.weight": ("text",),
    "ln_1.bias": ("text",),
    "attn.in_proj_weight": ("3 text", "text"),
    "attn.in_proj_bias": ("3 text",),
    "attn.out_proj.weight": ("text", "text"),
    "attn.out_proj.bias": ("text",),
    "ln_2.weight": ("text",),
    "ln_2.bias": ("text",),
    "mlp.c_fc.weight": ("hidden", "text"),
    "mlp.c_fc.bias": ("hidden",),
    "mlp.c_proj.weight": ("text", "hidden"),
    "mlp.c_proj.bias": ("text",),
}
DEAD: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "the prompt is read before the last block": {
        f"cond_stage_model.model.transformer.resblocks.{{last}}.{name}": shape
        for name, shape in _BLOCK.items()
    },
    "only CLIP's comparison of prompts and images uses them": {
        "cond_stage_model.model.text_projection": ("text", "joint"),
        "cond_stage_model.model.logit_scale": (),
    },
    "the image is read before the last norm and the projection": {
        "embedder.model.visual.ln_post.weight": ("image",),
        "embedder.model.visual.ln_post.bias": ("image",),
        "embedder.model.visual.proj": ("image", "joint"),
    },
    "parts of a text tower, which the image embedder does not use": {
        "embedder.model.token_embedding.weight": ("vocabulary", "text"),
        "embedder.model.positional_embedding": ("length", "text"),
        "embedder.model.ln_final.weight": ("text",),
        "embedder.model.ln_final.bias": ("text",),
        "embedder.model.text_projection": ("text", "joint"),
        "embedder.model.logit_scale": (),
    },
}
"""Reason why a published weight is unused -> such weights, with the names of their sizes."""


def unet_sources(shapes: Mapping[str, Shape], *, causal: bool = True) -> dict[str, Source]:
    """Return the source of each parameter of a `UNet`, by the published network's own names.

    Args:
        shapes: Name -> shape of every parameter of the `UNet`.
        causal: Whether the published network is causal, and not a base.

    Raises:
        KeyError: A parameter that is not in the table.
    """
    return {name: _unet_source(name, shape, shapes, causal) for name, shape in shapes.items()}


def tower_source(name: str, shape: Shape, sizes: int) -> Source:
    """Return the source of a weight of the autoencoder or a tower in a published checkpoint.

    Args:
        name: Its name in a whole world model, or `text_tower.` and its name in that tower.
        shape: Its shape.
        sizes: Sizes of the autoencoder (length of its `channel_multipliers`): the published decoder
            counts them from the finest, ours from the coarsest.

    Raises:
        ValueError: A name of no tower.
    """
    ours = next((prefix for prefix in _TOWERS if name.startswith(prefix)), None)
    if ours is None:
        raise ValueError(f"expected a weight that begins with one of {list(_TOWERS)}, found {name}")
    theirs, rules = _TOWERS[ours]
    rest = name.removeprefix(ours)
    for pattern, replacement in rules:
        rest = re.sub(pattern, replacement, rest)
    if ours == "autoencoder.vae.":
        rest = re.sub(r"(?<=\.up\.)\d+", lambda level: str(sizes - 1 - int(level[0])), rest)
        if len(shape) == 2:  # a matrix of its attention, which is a 1 x 1 convolution there
            shape = (*shape, 1, 1)
    fused = re.search(r"\.self_attn\.([qkv])_proj\.", name)
    if fused:
        return Source(theirs + rest, (3 * shape[0], *shape[1:]), "qkv".index(fused[1]))
    return Source(theirs + rest, shape)


def dead_shapes(
    image: ClipConfig, text: ClipConfig, vocabulary: int, joint: int
) -> dict[str, Shape]:
    """Return name -> shape of every published tower weight that our models do not use.

    Args:
        image: The image tower.
        text: The text tower, without the last block, which is unused.
        vocabulary: Number of different text tokens.
        joint: Channels of the space in which CLIP compares prompts with images.
    """
    sizes = {
        "image": image.width,
        "text": text.width,
        "3 text": 3 * text.width,
        "hidden": text.hidden,
        "vocabulary": vocabulary,
        "length": TEXT_LENGTH,
        "joint": joint,
    }
    return {
        name.format(last=text.layers): tuple(sizes[word] for word in shape)
        for weights in DEAD.values()
        for name, shape in weights.items()
    }


def _unet_source(name: str, shape: Shape, shapes: Mapping[str, Shape], causal: bool) -> Source:
    layer, _, parameter = name.rpartition(".")
    published = _OUTSIDE.get(layer) or _in_block(layer, shapes)
    if not causal:
        for child in _CAUSAL_CHILDREN:
            published = published.removesuffix(child)
    width_one = layer.startswith("initial_attention.project_") and parameter == "weight"
    return Source(f"{published}.{parameter}", (*shape, 1) if width_one else shape)


def _in_block(layer: str, shapes: Mapping[str, Shape]) -> str:
    for pattern, template in _PLACES:
        place = re.match(pattern + r"\.", layer)
        if place:
            number = int(place[1]) if place.groups() else 0
            attends = f"up.{number}.spatial.norm.weight" in shapes
            where = template.format(same=number, next=number + 1, last=3 if attends else 1)
            return f"{where}.{_LAYERS[layer[place.end() :]]}"
    raise KeyError(f"expected a layer of the published network, found {layer!r}")
