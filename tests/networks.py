"""Sizes of networks that are quick to make."""

from v2w_gym.configs.rt1 import RT1Config

TINY_RT1 = RT1Config(
    stem=8,
    channels=(8, 8),
    repeats=(1, 2),
    kernels=(3, 5),
    strides=(2, 2),
    expansions=(1, 2),
    top=16,
    token_size=16,
    image_tokens=2,
    learner_width=8,
    width=24,
    layers=1,
    heads=2,
    head_size=8,
    instruction_size=8,
)
