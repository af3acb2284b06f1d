"""Impossible settings of a world model are refused by name, before a network is made."""

import math
from dataclasses import replace

import pytest

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.model import (
    AutoencoderConfig,
    GeometryConfig,
    KLAutoencoderConfig,
    WorldModelConfig,
)
from v2w_gym.configs.model_limits import check_model_config
from v2w_gym.configs.published import PUBLISHED, SIZES

CFG = WorldModelConfig()


def with_unet(**changes):
    return replace(CFG, unet=replace(CFG.unet, **changes))


def test_the_published_models_and_the_one_trained_here_can_be_meant():
    check_model_config(CFG)
    for model in PUBLISHED.values():
        check_model_config(model)
        check_model_config(SIZES["tiny"].of(model))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (replace(CFG, window=4, context_frames=4), "expected 1 <= context_frames < window"),
        (replace(CFG, robot="rt9"), "expected robot to be one of"),
        (replace(CFG, raw_fields=("world_vektor",)), "raw_fields .* did you mean 'world_vector'"),
        (with_unet(channels=65), r"unet\.channels to be divisible by 2, found 65"),
        (with_unet(channel_multipliers=()), r"1 to 8 values in unet\.channel_multipliers, found 0"),
        (with_unet(channel_multipliers=(1,) * 9), r"1 to 8 values .*, found 9"),
        (with_unet(groups=24), r"unet\.groups\) to be divisible by 24, found 64"),
        (with_unet(head_channels=300), r"unet\.head_channels .*head_channels=300 for 128 channels"),
        (with_unet(channels=80, head_channels=50), r"head_channels=50 for 160 channels"),
        (with_unet(attention_sizes=(2, 4)), r"unet\.attention_sizes among \[1, 2\], .*found \[4\]"),
        (with_unet(context_channels=64), r"expected unet\.context_channels=0"),
        (
            replace(CFG, autoencoder=AutoencoderConfig(patch=7)),
            r"64 x 64 pixels, to be divisible by 28: 2 x autoencoder\.patch",
        ),
        (
            replace(CFG, autoencoder=AutoencoderConfig(channels=(64, 97))),
            r"autoencoder\.channels to be divisible by 8, found 97",
        ),
        (
            replace(CFG, kl_autoencoder=KLAutoencoderConfig(channels=40)),
            r"kl_autoencoder\.channels x channel_multipliers to be divisible by 32, found 40",
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 10**9}, "card: expected window <= 4096, found 1000000000"),
        ({"context_frames": 0}, "expected context_frames >= 1, found 0"),
        ({"first_action": "hiden"}, "cannot set first_action: .*; did you mean 'hidden'"),
        ({"condition_frame": "last"}, r"expected one of \['start', 'oldest'\], found 'last'"),
        ({"unet": {"channels": -64}}, r"expected unet\.channels >= 2, found -64"),
        ({"unet": {"channels": 10**12}}, r"unet\.channels <= 8192, found 1000000000000"),
        ({"unet": {"channels": "64"}}, r"unet\.channels: expected a whole number .*, found '64'"),
        ({"unet": {"blocks": 10**9}}, r"unet\.blocks <= 64"),
        ({"unet": {"blocks": 0}}, r"unet\.blocks >= 1"),
        ({"unet": {"groups": 0}}, r"unet\.groups >= 1"),
        ({"unet": {"dropout": math.nan}}, r"unet\.dropout: expected a finite number, found nan"),
        ({"unet": {"temporal_norm": "pool"}}, r"unet\.temporal_norm: .*; did you mean 'pooled'"),
        ({"autoencoder": {"channels": [64] * 3}}, r"autoencoder\.channels: expected a list of 2"),
        ({"diffusion": {"noise_levels": 10**10}}, r"diffusion\.noise_levels <= 100000"),
        ({"diffusion": {"noise_levels": 0}}, r"diffusion\.noise_levels >= 2"),
        ({"kl_autoencoder": 3}, "cannot set kl_autoencoder: expected settings by name, found 3"),
        (None, "card: cannot set settings: expected settings by name, found nothing"),
    ],
)
def test_a_card_with_numbers_that_no_network_has_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(WorldModelConfig, settings, "card")
