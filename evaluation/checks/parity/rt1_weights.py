"""Weights of the golden case `rt1`, which are generated from seeds instead of stored."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.policies.rt1.efficientnet import IMAGE_MEAN, IMAGE_STD

Normal: TypeAlias = NDArray[np.float64]

BY_WORD: Mapping[str, Callable[[Normal], Normal]] = {
    "moving_mean": lambda normal: 0.05 * normal,
    "moving_variance": lambda normal: 1.0 + 0.2 * np.abs(normal),
    "gamma": lambda normal: 1.0 + 0.1 * normal,
    "beta": lambda normal: 0.05 * normal,
    "bias": lambda normal: 0.05 * normal,
    "mean": lambda normal: np.array(IMAGE_MEAN),
    "variance": lambda normal: np.array(IMAGE_STD),
}
"""What numbers become, by how a variable's name ends, the first that fits; the rest are kernels."""
SPREAD = 0.3
"""Standard deviation of kernels that are not scaled by what they sum over: FiLM's and places'."""
POSITIONS = (114, 512)


def generate(info: Mapping[str, Any]) -> list[tuple[str, NDArray[np.float32]]]:
    """Return name and value of variables 1, 2, ... in TensorFlow's layout.

    Args:
        info: The case's JSON: `seed_base`, and `names` and `shapes` from variable 0 on.
    """
    listed = enumerate(zip(info["names"], info["shapes"], strict=True))
    return [
        (name, _value(info["seed_base"] + number, name.split(":")[0], tuple(shape)))
        for number, (name, shape) in listed
        if number > 0
    ]


def _value(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if not shape:
        return np.zeros((), np.float32)
    normal = np.random.default_rng(seed).standard_normal(shape)
    for word, become in BY_WORD.items():
        if name.endswith(word):
            return become(normal).astype(np.float32)
    if "film" in name or shape == POSITIONS:
        return (SPREAD * normal).astype(np.float32)
    gain = 2.0 if len(shape) == 4 else 1.0
    return (normal * np.sqrt(gain / _summed_over(name, shape))).astype(np.float32)


def _summed_over(name: str, shape: tuple[int, ...]) -> int:
    """Return how many inputs each output of a kernel has."""
    if name.endswith("depthwise_kernel"):
        return shape[0] * shape[1]
    if len(shape) == 3 and "attention_output" not in name:  # to heads
        return shape[0]
    return int(np.prod(shape[:-1]))
