"""How much one rollout has to remember between steps, layer by layer.

Derived from the network's settings alone and not from the code that remembers, so that each checks
the other.
"""

from collections.abc import Iterator

from v2w_gym.configs.model import UNetConfig, WorldModelConfig

KEY_AND_VALUE, ATTENTIONS, CONVOLUTIONS = 2, 2, 4
"""Of an attention; attentions of a temporal transformer; convolutions of a temporal block."""
REACH = 2
"""Frames before its own that a temporal convolution sees."""


def bytes_per_frame(cfg: UNetConfig, pixels: int, value_bytes: int) -> int:
    """Return the bytes of one frame's keys and values in every temporal attention.

    Args:
        cfg: The network.
        pixels: Latent pixels of a frame (h * w).
        value_bytes: Bytes of one number.
    """
    initial = cfg.initial_attention_heads * cfg.head_channels or cfg.channels
    numbers = initial * pixels if cfg.initial_attention else 0
    numbers += sum(width * size for width, size, attends in _blocks(cfg, pixels) if attends)
    return numbers * KEY_AND_VALUE * ATTENTIONS * value_bytes


def bytes_of_convolutions(cfg: UNetConfig, pixels: int, value_bytes: int) -> int:
    """Return the bytes of the last two inputs of every temporal convolution."""
    numbers = sum(width * size for width, size, _ in _blocks(cfg, pixels))
    return numbers * CONVOLUTIONS * REACH * value_bytes


def bytes_of_context(cfg: WorldModelConfig, value_bytes: int) -> int:
    """Return the bytes of the keys and values of a conditioning frame in every cross-attention."""
    if cfg.context is None:
        return 0
    tokens = cfg.context.text_tokens + cfg.context.resampler.tokens
    widths = sum(width for width, _, attends in _blocks(cfg.unet, 1) if attends)
    return widths * tokens * KEY_AND_VALUE * value_bytes


def bytes_per_rollout(
    cfg: WorldModelConfig, latent: tuple[int, int, int], action_size: int, value_bytes: int
) -> int:
    """Return what one rollout remembers, whose steps pass the newest frame alone.

    Besides the network's memory these are the latents and actions of a window, the latent and the
    context of the conditioning frame, and two moments of each known frame's velocity.

    Args:
        cfg: The world model.
        latent: (C, h, w) of a frame.
        action_size: Values of an action (A).
        value_bytes: Bytes of one number in the network; latents and moments have 4 each.
    """
    channels, height, width = latent
    pixels, known = height * width, cfg.window - 1
    single = (cfg.window + 1) * channels * pixels + cfg.window * action_size + 2 * known
    return (
        known * bytes_per_frame(cfg.unet, pixels, value_bytes)
        + bytes_of_convolutions(cfg.unet, pixels, value_bytes)
        + bytes_of_context(cfg, value_bytes)
        + 4 * single
    )


def _blocks(cfg: UNetConfig, pixels: int) -> Iterator[tuple[int, int, bool]]:
    """Yield channels, pixels and whether transformers follow, for every residual block."""
    coarsest = len(cfg.channel_multipliers) - 1
    for level, multiplier in enumerate(cfg.channel_multipliers):
        place = cfg.channels * multiplier, pixels // 4**level, 2**level in cfg.attention_sizes
        yield from [place] * (2 * cfg.blocks + 1)  # on the way down, and one more on the way up
        if level == coarsest:
            yield from [(*place[:2], True), (*place[:2], False)]  # in the middle
