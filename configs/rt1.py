"""Sizes of RT-1 networks: the published ones and the small one that is trained here."""

from collections.abc import Mapping
from dataclasses import dataclass

from configs.limits import Limits


@dataclass(frozen=True)
class RT1Config:
    """Sizes of an RT-1 network; the card of a checkpoint holds them.

    The tuples have one entry per stage of the image encoder, an EfficientNet. Its stem and every
    stage of stride 2 halve height and width, rounded down.

    Attributes:
        image_size: Height and width of the frames, in pixels.
        input_size: Height and width that frames are resized to before the encoder, in pixels.
        history: Frames in the policy's memory, the newest included (T).
        stem: Channels after the first convolution.
        channels: Channels after each stage.
        repeats: Blocks in each stage, each followed by FiLM.
        kernels: Side of the depthwise convolutions.
        strides: Stride of each stage's first block.
        expansions: How many times wider a block is inside than at its input.
        top: Channels after the encoder's last convolution.
        drop_connect: Share of training samples that skip the last block; earlier blocks are
            skipped less, in proportion to their place.
        norm_momentum: How much a batch norm's running statistics take from each batch.
        feature_positions: Whether the encoder's features get learned positions added. The
            published network infers positions from its padding; a small one cannot.
        token_size: Size of one image token (D).
        image_tokens: Tokens kept of one frame (K).
        learner_width: Hidden size of the TokenLearner.
        width: Size of one token inside the transformer.
        layers: Transformer layers.
        heads: Attention heads.
        head_size: Size of one head's keys, queries and values.
        dropout: Dropout in the transformer.
        instruction_size: Length of an instruction's vector (E).
        bins: Values one action token can take.
    """

    image_size: tuple[int, int] = (64, 64)
    input_size: tuple[int, int] = (64, 64)
    history: int = 6
    stem: int = 24
    channels: tuple[int, ...] = (24, 48, 96)
    repeats: tuple[int, ...] = (1, 1, 2)
    kernels: tuple[int, ...] = (3, 3, 3)
    strides: tuple[int, ...] = (2, 2, 1)
    expansions: tuple[int, ...] = (1, 4, 4)
    top: int = 256
    drop_connect: float = 0.0
    norm_momentum: float = 0.1
    feature_positions: bool = True
    token_size: int = 128
    image_tokens: int = 8
    learner_width: int = 64
    width: int = 128
    layers: int = 4
    heads: int = 4
    head_size: int = 32
    dropout: float = 0.1
    instruction_size: int = 64
    bins: int = 256


def _published(width: int, layers: int, head_size: int) -> RT1Config:
    """Return the published sizes: EfficientNet-B3, whose frames are seen at 300 x 300 pixels."""
    return RT1Config(
        image_size=(256, 320),
        input_size=(300, 300),
        stem=40,
        channels=(24, 32, 48, 96, 136, 232, 384),
        repeats=(2, 3, 3, 5, 5, 6, 2),
        kernels=(3, 3, 5, 3, 5, 5, 3),
        strides=(1, 2, 2, 2, 1, 2, 1),
        expansions=(1, 6, 6, 6, 6, 6, 6),
        top=1536,
        drop_connect=0.2,
        norm_momentum=0.01,
        feature_positions=False,
        token_size=512,
        width=width,
        layers=layers,
        heads=8,
        head_size=head_size,
        instruction_size=512,
    )


RT1_SIZES: Mapping[str, RT1Config] = {
    "small": RT1Config(),
    "rt1": _published(width=512, layers=8, head_size=128),
    "multirobot": _published(width=1024, layers=10, head_size=256),
}
"""The network trained here, RT-1 (35.3 M parameters) and its variant for many robots (111.4 M)."""

RT1_LIMITS: Limits = {
    "image_size": (1, 4096),
    "input_size": (1, 4096),
    "history": (1, 256),
    "stem": (1, 4096),
    "channels": (1, 8192),
    "repeats": (1, 64),
    "kernels": (1, 31),
    "strides": (1, 2),
    "expansions": (1, 32),
    "top": (1, 16_384),
    "token_size": (1, 8192),
    "image_tokens": (1, 1024),
    "learner_width": (1, 8192),
    "width": (1, 16_384),
    "layers": (1, 256),
    "heads": (1, 1024),
    "head_size": (1, 4096),
    "instruction_size": (1, 16_384),
    "bins": (3, 65_536),
}
"""What numbers in an `RT1Config` can be meant."""
