"""Checks that the settings of a world model are consistent."""

from collections.abc import Iterable

from v2w_gym.configs.model import UNetConfig, WorldModelConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS

MOST_SIZES = 8
"""Most sizes in a network; height and width are halved between them."""
OWN_GROUPS, KL_GROUPS = 8, 32
"""Groups of the norms in our autoencoder and in Stable Diffusion's."""


def check_model_config(cfg: WorldModelConfig) -> None:
    """Check the settings of a whole world model, before it takes memory or time.

    Raises:
        ValueError: Settings that contradict each other, or an unknown name; the message names the
            setting.
    """
    check_networks(cfg)
    if cfg.context is None and cfg.unet.context_channels:
        raise ValueError(
            "expected unet.context_channels=0, since context is null, found "
            f"{cfg.unet.context_channels}"
        )


def check_networks(cfg: WorldModelConfig) -> None:
    """Check the settings of a model's networks, whose image context may be left out.

    Raises:
        ValueError: As `check_model_config`.
    """
    check_context_frames(cfg.window, cfg.context_frames)
    robot = lookup(ROBOTS, cfg.robot, "robot")
    for name in cfg.raw_fields:
        lookup(robot.slices, str(name), "raw_fields")
    _check_autoencoder(cfg)
    _check_unet(cfg.unet)
    _check_context(cfg)
    _check_picture(cfg, robot.frame_size)


def check_context_frames(window: int, context_frames: int) -> None:
    """Check that a window has room for a new frame.

    Raises:
        ValueError: The window has no room.
    """
    if not 1 <= context_frames < window:
        raise ValueError(
            f"expected 1 <= context_frames < window, found context_frames={context_frames} and "
            f"window={window}"
        )


def _check_autoencoder(cfg: WorldModelConfig) -> None:
    if cfg.kl_autoencoder is None:
        _check_divided("autoencoder.channels", cfg.autoencoder.channels, OWN_GROUPS)
        return
    sizes = cfg.kl_autoencoder.channel_multipliers
    _check_count("kl_autoencoder.channel_multipliers", sizes, (1, MOST_SIZES))
    widths = [cfg.kl_autoencoder.channels * size for size in sizes]
    _check_divided("kl_autoencoder.channels x channel_multipliers", widths, KL_GROUPS)


def _check_unet(cfg: UNetConfig) -> None:
    _check_count("unet.channel_multipliers", cfg.channel_multipliers, (1, MOST_SIZES))
    _check_divided("unet.channels", [cfg.channels], 2)
    widths = [cfg.channels * size for size in cfg.channel_multipliers]
    _check_divided("unet.channels x channel_multipliers (unet.groups)", widths, cfg.groups)
    factors = [2**level for level in range(len(widths))]
    if surplus := sorted(set(cfg.attention_sizes) - set(factors)):
        raise ValueError(
            f"expected unet.attention_sizes among {factors}, the sizes that "
            f"{len(widths)} channel_multipliers make, found {surplus}"
        )
    attended = [w for w, size in zip(widths, factors, strict=True) if size in cfg.attention_sizes]
    if cfg.initial_attention and not cfg.initial_attention_heads:
        attended.append(widths[0])
    for width in (*attended, widths[-1]):
        heads = width // cfg.head_channels
        if not heads or width % heads:
            raise ValueError(
                f"expected unet.head_channels to divide the channels of every size with "
                f"attention, found head_channels={cfg.head_channels} for {width} channels"
            )


def _check_context(cfg: WorldModelConfig) -> None:
    if cfg.context is None:
        return
    clip, channels = cfg.context.clip, cfg.context.resampler.out_channels
    if cfg.unet.context_channels != channels:
        raise ValueError(
            f"expected unet.context_channels={channels} as context.resampler.out_channels, found "
            f"{cfg.unet.context_channels}"
        )
    _check_divided("context.clip.width (context.clip.heads)", [clip.width], clip.heads)


def _check_picture(cfg: WorldModelConfig, frame_size: tuple[int, int]) -> None:
    """Check that a picture can be halved as often as the networks halve it."""
    size, name = frame_size, f"frames of {cfg.robot}"
    if cfg.geometry is not None:
        size, name = cfg.geometry.canvas, "geometry.canvas"
        if any(a > b for a, b in zip(cfg.geometry.resized, size, strict=True)):
            raise ValueError(
                f"expected geometry.resized within geometry.canvas {size}, found "
                f"{cfg.geometry.resized}"
            )
    halved, cause = 2 * cfg.autoencoder.patch, "2 x autoencoder.patch"
    if cfg.kl_autoencoder is not None:
        halved = 2 ** (len(cfg.kl_autoencoder.channel_multipliers) - 1)
        cause = "the halvings of kl_autoencoder.channel_multipliers"
    factor = halved * 2 ** (len(cfg.unet.channel_multipliers) - 1)
    if any(side % factor for side in size):
        raise ValueError(
            f"expected {name}, {size[0]} x {size[1]} pixels, to be divisible by {factor}: {cause} "
            "and the halvings of unet.channel_multipliers; found a remainder"
        )


def _check_count(name: str, values: tuple[int, ...], limits: tuple[int, int]) -> None:
    if not limits[0] <= len(values) <= limits[1]:
        raise ValueError(
            f"expected {limits[0]} to {limits[1]} values in {name}, found {len(values)}"
        )


def _check_divided(name: str, values: Iterable[int], divisor: int) -> None:
    if wrong := [value for value in values if value % divisor]:
        raise ValueError(f"expected {name} to be divisible by {divisor}, found {wrong[0]}")
