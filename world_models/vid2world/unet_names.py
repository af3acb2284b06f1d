"""The network's weights by their names in the released checkpoints: one table, read both ways."""

import re
from collections.abc import Mapping

from world_models.vid2world.tower_names import Source

Shape = tuple[int, ...]

OUTSIDE: Mapping[str, str] = {
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

PLACES: tuple[tuple[str, str], ...] = (
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
"""Where a block stands; the first place that fits counts.

`same` is its number here, `next` the one after, `last` what follows its transformers, if any.
"""

LAYERS: Mapping[str, str] = {
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
"""Layers of a block, wherever it stands."""

CAUSAL_CHILDREN = (".conv3d", ".conv2d")
"""What the released code calls the convolution inside a causal one; the base has no such child."""


def unet_sources(shapes: Mapping[str, Shape], *, causal: bool = True) -> dict[str, Source]:
    """Return where each parameter of a `UNet` lies among the released network's own names.

    Args:
        shapes: Name -> shape of every parameter of the `UNet`.
        causal: Whether the released network is a causal one, or the base that it came from.

    Raises:
        KeyError: A parameter that the table does not know.
    """
    return {name: _source(name, shape, shapes, causal) for name, shape in shapes.items()}


def _source(name: str, shape: Shape, shapes: Mapping[str, Shape], causal: bool) -> Source:
    layer, _, parameter = name.rpartition(".")
    released = OUTSIDE.get(layer) or _in_block(layer, shapes)
    if not causal:
        for child in CAUSAL_CHILDREN:
            released = released.removesuffix(child)
    width_one = layer.startswith("initial_attention.project_") and parameter == "weight"
    return Source(f"{released}.{parameter}", (*shape, 1) if width_one else shape)


def _in_block(layer: str, shapes: Mapping[str, Shape]) -> str:
    for pattern, template in PLACES:
        place = re.match(pattern + r"\.", layer)
        if place:
            number = int(place[1]) if place.groups() else 0
            attends = f"up.{number}.spatial.norm.weight" in shapes
            where = template.format(same=number, next=number + 1, last=3 if attends else 1)
            return f"{where}.{LAYERS[layer[place.end() :]]}"
    raise KeyError(f"expected a layer of the released network, found {layer!r}")
