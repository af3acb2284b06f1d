"""Sizes of RT-1 networks: the published ones, and the small one that this project trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from v2w_gym.configs.rules import Pixels, Range, Size
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class RT1Config(Settings):
    """Sizes of an RT-1 network; the card of a checkpoint holds them.

    The tuples have one entry per stage of the image encoder, an EfficientNet. Its stem and every
    stage of stride 2 halve height and width, rounded down.

    Attributes:
        image_size: Height and width of the frames, in pixels.
        input_size: Height and width of the encoder's input, in pixels; frames are resized to it.
        history: Frames in the policy's history, the newest included (T).
        stem: Channels after the first convolution.
        channels: Channels after each stage.
        repeats: Blocks in each stage, each followed by FiLM.
        kernels: Side of the depthwise convolutions.
        strides: Stride of each stage's first block.
        expansions: Ratio of a block's inner width to its input's.
        top: Channels after the encoder's last convolution.
        drop_connect: Share of training samples that skip the last block. Earlier blocks are
            skipped less, in proportion to their depth.
        norm_momentum: Weight of each batch in a batch norm's running statistics.
        feature_positions: Whether learned positions are added to the encoder's features. The
            published network infers positions from its padding; a small one cannot.
        token_size: Size of one image token (D).
        image_tokens: Tokens per frame after the TokenLearner (K).
        learner_width: Hidden size of the TokenLearner.
        width: Size of one token inside the transformer.
        layers: Transformer layers.
        heads: Attention heads.
        head_size: Size of one head's keys, queries and values.
        dropout: Dropout in the transformer.
        instruction_size: Length of an instruction's vector (E).
        bins: Number of values of an action token.
    """

    image_size: tuple[Pixels, Pixels] = (64, 64)
    input_size: tuple[Pixels, Pixels] = (64, 64)
    history: Annotated[int, Range(1, 256)] = 6
    stem: Size = 24
    channels: tuple[Size, ...] = (24, 48, 96)
    repeats: tuple[Annotated[int, Range(1, 64)], ...] = (1, 1, 2)
    kernels: tuple[Annotated[int, Range(1, 31)], ...] = (3, 3, 3)
    strides: tuple[Annotated[int, Range(1, 2)], ...] = (2, 2, 1)
    expansions: tuple[Annotated[int, Range(1, 32)], ...] = (1, 4, 4)
    top: Size = 256
    drop_connect: Annotated[float, Range(0, 0.99)] = 0.0
    norm_momentum: Annotated[float, Range(0, 0.99)] = 0.1
    feature_positions: bool = True
    token_size: Size = 128
    image_tokens: Size = 8
    learner_width: Size = 64
    width: Size = 128
    layers: Annotated[int, Range(1, 256)] = 4
    heads: Annotated[int, Range(1, 1024)] = 4
    head_size: Size = 32
    dropout: Annotated[float, Range(0, 0.99)] = 0.1
    instruction_size: Size = 64
    bins: Size = 256


def _published(width: int, layers: int, head_size: int) -> RT1Config:
    """Return the published sizes, with an EfficientNet-B3 at 300 x 300 pixels."""
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
"""The small network, RT-1 (35.3 M parameters), and its variant for many robots (111.4 M)."""
