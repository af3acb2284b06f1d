"""Settings of a world model that cannot be meant are refused by name, before a network is made."""

import math
from dataclasses import replace

import pytest

from configs.limits import check_limits
from configs.model import (
    AutoencoderConfig,
    DiffusionConfig,
    GeometryConfig,
    KLAutoencoderConfig,
    UNetConfig,
    WorldModelConfig,
)
from configs.model_limits import LIMITS, check_model_config
from configs.released import RELEASED, SIZES

CFG = WorldModelConfig()


def with_unet(**changes):
    return replace(CFG, unet=replace(CFG.unet, **changes))


def test_the_published_models_and_the_one_trained_here_can_be_meant():
    check_model_config(CFG)
    for model in RELEASED.values():
        check_model_config(model)
        check_model_config(SIZES["tiny"].of(model))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (replace(CFG, window=10**9), "expected window of at most 4096, found 1000000000"),
        (replace(CFG, window=4, context_frames=4), "expected 1 <= context_frames < window"),
        (replace(CFG, context_frames=0), "context_frames of at least 1, found 0"),
        (replace(CFG, robot="rt9"), "expected robot to be one of"),
        (replace(CFG, raw_fields=("world_vektor",)), "raw_fields .* did you mean 'world_vector'"),
        (replace(CFG, first_action="hiden"), "expected first_action .* did you mean 'hidden'"),
        (replace(CFG, condition_frame="last"), r"condition_frame to be one of \['oldest', 'start'"),
        (with_unet(channels=-64), r"unet\.channels of at least 2, found -64"),
        (with_unet(channels=10**12), r"unet\.channels of at most 8192, found 1000000000000"),
        (with_unet(channels=65), r"unet\.channels to be divisible by 2, found 65"),
        (with_unet(channels="64"), r"expected a number in unet\.channels, found '64'"),
        (with_unet(blocks=10**9), r"unet\.blocks of at most 64"),
        (with_unet(blocks=0), r"unet\.blocks of at least 1"),
        (with_unet(channel_multipliers=()), r"1 to 8 values in unet\.channel_multipliers, found 0"),
        (with_unet(channel_multipliers=(1,) * 9), r"1 to 8 values .*, found 9"),
        (with_unet(groups=24), r"unet\.groups\) to be divisible by 24, found 64"),
        (with_unet(groups=0), r"unet\.groups of at least 1, found 0"),
        (with_unet(head_channels=300), r"unet\.head_channels .*head_channels=300 for 128 channels"),
        (with_unet(channels=80, head_channels=50), r"head_channels=50 for 160 channels"),
        (with_unet(attention_sizes=(2, 4)), r"unet\.attention_sizes among \[1, 2\], .*found \[4\]"),
        (with_unet(context_channels=64), r"expected unet\.context_channels=0"),
        (with_unet(dropout=math.nan), r"unet\.dropout of at least 0, found nan"),
        (
            replace(CFG, autoencoder=AutoencoderConfig(patch=7)),
            r"64 x 64 pixels, to be divisible by 28: 2 x autoencoder\.patch",
        ),
        (
            replace(CFG, autoencoder=AutoencoderConfig(channels=(64, 97))),
            r"autoencoder\.channels to be divisible by 8, found 97",
        ),
        (
            replace(CFG, autoencoder=AutoencoderConfig(channels=(64, 64, 64))),
            r"2 to 2 values in autoencoder\.channels, found 3",
        ),
        (
            replace(CFG, kl_autoencoder=KLAutoencoderConfig(channels=40)),
            r"kl_autoencoder\.channels x channel_multipliers to be divisible by 32, found 40",
        ),
        (
            replace(CFG, diffusion=DiffusionConfig(noise_levels=10**10)),
            r"diffusion\.noise_levels of at most 100000",
        ),
        (
            replace(CFG, diffusion=DiffusionConfig(noise_levels=0)),
            r"diffusion\.noise_levels of at least 2",
        ),
        (
            replace(CFG, geometry=GeometryConfig(resized=(64, 64), canvas=(32, 64))),
            r"geometry\.resized within geometry\.canvas \(32, 64\)",
        ),
        (
            replace(CFG, geometry=GeometryConfig(resized=(32, 40), canvas=(40, 60))),
            r"geometry\.canvas, 40 x 60 pixels, to be divisible by 16",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(cfg, message):
    with pytest.raises(ValueError, match=message):
        check_model_config(cfg)


def test_every_limit_is_of_a_setting_and_every_number_has_one():
    check_limits(replace(RELEASED["google_robot"]), LIMITS)  # a wrong name is an AttributeError
    names = {name.removeprefix("unet.") for name in LIMITS if name.startswith("unet.")}
    numbers = {
        name for name, value in vars(UNetConfig()).items() if not isinstance(value, bool | str)
    }
    assert numbers == names
