"""What the released checkpoints call the weights of the autoencoder and the conditioning towers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from configs.model import ClipConfig
from world_models.vid2world.clip import TEXT_LENGTH

_Rules: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Source:
    """Where a weight of ours lies in a released checkpoint.

    Attributes:
        name: Its name there.
        shape: Its shape there.
        part: Which third of its rows is ours, where query, key and value lie in one matrix.
    """

    name: str
    shape: tuple[int, ...]
    part: int | None = None

    def take(self, released: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return our weight, of our shape, out of the released one, whose memory it shares."""
        ours = released if self.part is None else released.chunk(3)[self.part]
        return ours.reshape(shape)


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
"""Our prefix -> the released one, and what to replace in the rest of the name, in this order."""


def tower_source(name: str, shape: tuple[int, ...], sizes: int) -> Source:
    """Return where a weight of the autoencoder or a tower lies in a released checkpoint.

    Args:
        name: Its name in a whole world model, or `text_tower.` and its name in that tower.
        shape: Its shape.
        sizes: Sizes of the autoencoder (length of its `channel_multipliers`): the released decoder
            counts them from the finest, ours from the coarsest.

    Raises:
        ValueError: The name belongs to none of them.
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
        if len(shape) == 2:  # its only matrices are its attention's: 1 x 1 convolutions there
            shape = (*shape, 1, 1)
    fused = re.search(r"\.self_attn\.([qkv])_proj\.", name)
    if fused:
        return Source(theirs + rest, (3 * shape[0], *shape[1:]), "qkv".index(fused[1]))
    return Source(theirs + rest, shape)


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
    "only CLIP's own comparison of prompt and image needs it": {
        "cond_stage_model.model.text_projection": ("text", "joint"),
        "cond_stage_model.model.logit_scale": (),
    },
    "the image is read before the last norm and the projection": {
        "embedder.model.visual.ln_post.weight": ("image",),
        "embedder.model.visual.ln_post.bias": ("image",),
        "embedder.model.visual.proj": ("image", "joint"),
    },
    "left over from the text tower, which the image embedder has no use for": {
        "embedder.model.token_embedding.weight": ("vocabulary", "text"),
        "embedder.model.positional_embedding": ("length", "text"),
        "embedder.model.ln_final.weight": ("text",),
        "embedder.model.ln_final.bias": ("text",),
        "embedder.model.text_projection": ("text", "joint"),
        "embedder.model.logit_scale": (),
    },
}
"""Why nothing reads a released weight -> such weights, with their sizes in words."""


def dead_shapes(
    image: ClipConfig, text: ClipConfig, vocabulary: int, joint: int
) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every released tower weight that nothing of ours reads.

    Args:
        image: The image tower.
        text: The text tower, without the last block, which is one of those weights.
        vocabulary: Kinds of text token.
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
