"""Map the variables of a published RT-1 SavedModel to weights of `RT1Network`.

A SavedModel numbers its `model_variables` and may lack their names, so they are identified by their
order. Every shape, and every name that exists, is checked against the order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.policies.rt1.efficientnet import IMAGE_MEAN, IMAGE_STD
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer

ACTION_TOKENS = len(ActionTokenizer(GOOGLE_ROBOT))
LAYER_VARIABLES = 14
AFTER_LAYERS = 6
OTHERS = (
    "only the published RT-1 networks can be converted; others, such as RT-1-X, run from their "
    "SavedModel folder in TensorFlow"
)

VECTOR, DENSE, CONV, DEPTHWISE = (0,), (1, 0), (3, 2, 0, 1), (2, 3, 0, 1)
TO_HEADS, FROM_HEADS, HEADS_BIAS = (1, 2, 0), (2, 0, 1), (0, 1)
"""Which of TensorFlow's axes come first, second, ... in PyTorch, before some are merged."""


@dataclass(frozen=True)
class Variable:
    """One variable of a SavedModel.

    Attributes:
        key: Its name in `RT1Network.state_dict()`, or in the encoder's constants.
        shape: Its shape in TensorFlow.
        axes: Its axes in PyTorch's order.
        word: Part of its name in TensorFlow.
    """

    key: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    word: str

    def to_tensor(self, value: NDArray[np.float32], ours: tuple[int, ...]) -> Tensor:
        """Return `value` in PyTorch's layout, of shape `ours`."""
        moved = np.transpose(np.asarray(value, np.float32), self.axes)
        return torch.from_numpy(np.ascontiguousarray(moved).reshape(ours))


def from_variables(
    variables: Sequence[tuple[str, NDArray[np.float32]]], encoder: RT1Config = RT1_SIZES["rt1"]
) -> tuple[RT1Config, dict[str, Tensor]]:
    """Turn a SavedModel's variables into sizes and weights of an `RT1Network`.

    Args:
        variables: Name (may be empty) and value of `model_variables` 1, 2, ... in TensorFlow's
            layout; number 0, the train step, is left out.
        encoder: Sizes of the image encoder and its frames; all others are read from the shapes.

    Raises:
        ValueError: The variables are those of another network, missing, too many or in another
            order, or their values are not finite or impossible.
    """
    cfg = _read_sizes([np.shape(value) for _, value in variables], encoder)
    shapes = _shapes(cfg)
    state: dict[str, Tensor] = {}
    for number, (expected, (name, value)) in enumerate(
        zip(published_order(cfg), variables, strict=True), start=1
    ):
        where = f"variable {number} ({name or 'unnamed'}, our {expected.key})"
        _check(expected, name, value, where)
        state[expected.key] = expected.to_tensor(value, shapes[expected.key])
    _check_constants(state)
    return cfg, state


def published_order(cfg: RT1Config) -> list[Variable]:
    """Return variables 1, 2, ... of the published network with these sizes."""
    shapes = _shapes(cfg)
    ordered = []
    for key, axes, word in _names(cfg):
        opened = shapes[key]
        if axes in (TO_HEADS, HEADS_BIAS):
            opened = (cfg.heads, cfg.head_size, *opened[1:])
        elif axes == FROM_HEADS:
            opened = (opened[0], cfg.heads, cfg.head_size)
        elif axes == CONV and len(opened) == 2:  # a 1 x 1 convolution, a linear layer in PyTorch
            opened = (*opened, 1, 1)
        shape = tuple(opened[axes.index(axis)] for axis in range(len(opened)))
        ordered.append(Variable(key, shape, axes, word))
    return ordered


def _names(cfg: RT1Config) -> Iterator[tuple[str, tuple[int, ...], str]]:
    """Yield key, axes and word of every variable, in order."""
    yield from _weighted("action_embedding")
    yield "encoder.head.weight", CONV, "kernel"
    yield "encoder.mean", VECTOR, "mean"
    yield "encoder.std", VECTOR, "variance"
    yield "encoder.count", (), "count"
    yield from _conv_norm("encoder.stem")
    widened = [e != 1 for e, n in zip(cfg.expansions, cfg.repeats, strict=True) for _ in range(n)]
    for block, expands in enumerate(widened):
        name = f"encoder.blocks.{block}"
        if expands:
            yield from _conv_norm(f"{name}.expand")
        yield from _conv_norm(f"{name}.depthwise", DEPTHWISE)
        yield from _weighted(f"{name}.squeeze.reduce", CONV)
        yield from _weighted(f"{name}.squeeze.expand", CONV)
        yield from _conv_norm(f"{name}.project")
        yield from _film(f"{name}.film")
    yield from _conv_norm("encoder.top")
    yield from _film("encoder.film")
    yield from _weighted("token_learner.weigh.1")
    yield from _weighted("token_learner.weigh.3")
    yield from _layer_norm("token_learner.weigh.0")
    for layer in range(cfg.layers):
        name = f"layers.{layer}"
        yield from _layer_norm(f"{name}.norm1")
        yield from _weighted(f"{name}.key", TO_HEADS, HEADS_BIAS, "key/")
        yield from _weighted(f"{name}.mix", FROM_HEADS, VECTOR, "attention_output/")
        yield from _weighted(f"{name}.query", TO_HEADS, HEADS_BIAS, "query/")
        yield from _weighted(f"{name}.value", TO_HEADS, HEADS_BIAS, "value/")
        yield from _weighted(f"{name}.feed_forward")
        yield from _layer_norm(f"{name}.norm2")
    yield from _weighted("read_out")
    yield from _weighted("positions")
    yield from _weighted("embed")


def _weighted(
    key: str,
    axes: tuple[int, ...] = DENSE,
    bias: tuple[int, ...] = VECTOR,
    word: str = "",
) -> Iterator[tuple[str, tuple[int, ...], str]]:
    yield f"{key}.weight", axes, f"{word}kernel"
    yield f"{key}.bias", bias, f"{word}bias"


def _conv_norm(
    key: str, axes: tuple[int, ...] = CONV
) -> Iterator[tuple[str, tuple[int, ...], str]]:
    yield f"{key}.conv.weight", axes, "kernel"
    yield f"{key}.norm.running_mean", VECTOR, "moving_mean"
    yield f"{key}.norm.running_var", VECTOR, "moving_variance"
    yield from _layer_norm(f"{key}.norm")


def _layer_norm(key: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    yield f"{key}.weight", VECTOR, "gamma"
    yield f"{key}.bias", VECTOR, "beta"


def _film(key: str) -> Iterator[tuple[str, tuple[int, ...], str]]:
    yield from _weighted(f"{key}.add")
    yield from _weighted(f"{key}.multiply")


def _shapes(cfg: RT1Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of everything in `RT1Network.state_dict()`, and of its constants."""
    with torch.device("meta"):
        state = RT1Network(cfg, ACTION_TOKENS).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return {**shapes, "encoder.mean": (3,), "encoder.std": (3,), "encoder.count": ()}


def _read_sizes(shapes: Sequence[tuple[int, ...]], encoder: RT1Config) -> RT1Config:
    """Read the network's sizes from the shapes of its variables, for a known encoder."""
    without = len(list(_names(replace(encoder, layers=1)))) - LAYER_VARIABLES
    layers, rest = divmod(len(shapes) - without, LAYER_VARIABLES)
    if rest or layers < 1:
        raise ValueError(
            f"expected {without} variables and {LAYER_VARIABLES} for each layer of the "
            f"transformer, as RT-1 has, found {len(shapes)}; {OTHERS}"
        )
    start = without - AFTER_LAYERS  # where the transformer's layers begin
    film = next(
        n for n, (key, _, _) in enumerate(_names(encoder)) if key.endswith("film.add.weight")
    )
    try:
        bins, token_size = shapes[0]
        instruction_size, _ = shapes[film]
        (_, learner_width), (_, image_tokens) = shapes[start - 6], shapes[start - 4]
        width, heads, head_size = shapes[start + 2]
        places, _ = shapes[-4]
    except ValueError:
        raise ValueError(f"expected the shapes of an RT-1, found {shapes}; {OTHERS}") from None
    history, rest = divmod(places, image_tokens + ACTION_TOKENS)
    if bins != encoder.bins or rest:
        raise ValueError(
            f"expected {encoder.bins} values per action token, and places for {image_tokens} + "
            f"{ACTION_TOKENS} tokens per step, as RT-1 has, found {bins} values and {places} "
            f"places; {OTHERS}"
        )
    return replace(
        encoder,
        history=history,
        token_size=token_size,
        image_tokens=image_tokens,
        learner_width=learner_width,
        width=width,
        layers=layers,
        heads=heads,
        head_size=head_size,
        instruction_size=instruction_size,
    )


def _check(expected: Variable, name: str, value: NDArray[np.float32], where: str) -> None:
    if np.shape(value) != expected.shape:
        raise ValueError(
            f"expected shape {expected.shape} of {where}, found {np.shape(value)}; {OTHERS}"
        )
    if name and expected.word not in name:
        raise ValueError(
            f"expected {expected.word!r} in the name of {where}; the variables are in another "
            f"order than RT-1's: {OTHERS}"
        )
    if not np.isfinite(value).all():
        raise ValueError(f"expected finite numbers in {where}; copy the checkpoint again")
    if expected.word == "moving_variance" and np.min(value) < 0:
        raise ValueError(
            f"expected no negative variance in {where}, found {np.min(value):g}; the variables "
            f"are in another order than RT-1's: {OTHERS}"
        )


def _check_constants(state: dict[str, Tensor]) -> None:
    """Remove the encoder's constants from `state`, and check that they are ImageNet's."""
    state.pop("encoder.count")
    for key, constant in (("encoder.mean", IMAGE_MEAN), ("encoder.std", IMAGE_STD)):
        found = state.pop(key)
        if not torch.allclose(found, torch.tensor(constant), rtol=1e-6, atol=0):
            raise ValueError(
                f"expected ImageNet's {constant} as {key}, found {found.tolist()}; {OTHERS}"
            )
