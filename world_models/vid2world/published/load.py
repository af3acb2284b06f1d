"""Loading of published checkpoints as world models.

The module `layout` maps the names of weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2w_gym.configs.model import DiffusionConfig
from v2w_gym.configs.published import TextConfig
from v2w_gym.world_models.checkpoint import card_of, check_finite, check_shapes, floats, shapes_of
from v2w_gym.world_models.diffusion import published_buffers
from v2w_gym.world_models.vid2world.clip_towers import ClipTextTower, empty_prompt
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.published.containers import choose, find_weights, tensors_in
from v2w_gym.world_models.vid2world.published.describe import describe, is_causal
from v2w_gym.world_models.vid2world.published.layout import (
    NETWORK,
    PROMPT,
    fill,
    published_shapes,
    sources,
    tower_sources,
)
from v2w_gym.world_models.vid2world.published.weight_names import Shape, Source
from v2w_gym.world_models.weight_files import open_weights, read_weights

UNREAD_TABLES = {*published_buffers(DiffusionConfig(), zero_terminal_snr=True), "lvlb_weights"}
"""Tables of the noise schedule in a checkpoint, which are recomputed here."""


@dataclass(frozen=True)
class Published:
    """A checkpoint in the published format, not yet translated.

    Attributes:
        path: Path of the file.
        weights: Published name -> weight, read from the file on use.
        averaged: The requested weights; see `read_published`.
        chosen: The chosen set of weights in words.
        others: Places of the other sets, such as averaged ones beside plain ones.
    """

    path: Path
    weights: Mapping[str, Tensor]
    averaged: bool | None = None
    chosen: str = "plain"
    others: tuple[str, ...] = ()

    @property
    def shapes(self) -> dict[str, Shape]:
        """Published name -> shape."""
        return shapes_of(self.weights)

    @property
    def causal(self) -> bool:
        """Whether it is a Vid2World model, and not a base model."""
        return is_causal(self.shapes)


def read_published(path: Path, averaged: bool | None = None) -> Published:
    """Open a checkpoint without running code in it, and read all of it once to find damage.

    Args:
        path: The file, or the index of a sharded one.
        averaged: Whether to take the moving average (EMA) of the weights; None takes those that
            the file's own framework would load.

    Raises:
        FileNotFoundError: No such file, or a part of it is missing.
        ValueError: A truncated, damaged or other file, missing weights, or objects that could run
            code.
    """
    return _find(path, read_weights(path), averaged)


def _find(path: Path, stored: Mapping[str, Any], averaged: bool | None) -> Published:
    try:
        found = find_weights(stored)
        if not found:
            raise ValueError(
                "expected a Vid2World or DynamiCrafter checkpoint, with weights named "
                f"{NETWORK}..., found {_instead(path, sorted(tensors_in(stored)))}"
            )
        chosen = choose(found, averaged)
    except ValueError as error:
        raise ValueError(f"{error}; the checkpoint is {path}") from error
    _check_in_memory(path, chosen.weights)
    others = tuple(one.place for one in found if one is not chosen)
    kind = "averaged (EMA)" if chosen.averaged else "plain"
    return Published(path, chosen.weights, averaged, f"{kind}, in {chosen.place}", others)


def _instead(path: Path, names: list[str]) -> str:
    """Describe a file's content, and give advice if only its card is missing."""
    ours = any(name.startswith(("unet.", "autoencoder.")) for name in names)
    card = f"; a converted checkpoint needs its card, {card_of(path).name}, beside it"
    return f"{len(names)} tensors {names[:3]}{card if ours else ''}"


def _check_in_memory(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not plain dense numbers, such as views larger than their storage."""
    for name, value in weights.items():
        plain = value.layout is torch.strided and value.device.type == "cpu"
        if not plain or value.is_quantized or value.nbytes > value.untyped_storage().nbytes():
            raise ValueError(
                f"expected {name!r} as plain numbers in {path}, found a sparse, quantised, "
                "repeated or empty tensor; save the weights again, dense and in float32"
            )


def load_published(published: Published, robot: str | None = None) -> Vid2World:
    """Return the model of a checkpoint, whose memory it shares.

    A base checkpoint gives a model that is not causal and has no actions, for `causalize`.

    Args:
        published: The result of `read_published`.
        robot: The expected robot; None infers it from the action layers.

    Raises:
        ValueError: Another robot's checkpoint, or missing, unknown, misshapen or infinite weights.
    """
    try:
        cfg, text = describe(published.shapes, robot)
        expected = published_shapes(cfg, text)
    except KeyError as error:
        raise ValueError(
            f"expected weight {error.args[0]!r} in {published.path}, found none; the checkpoint is "
            "incomplete or of another model"
        ) from error
    except (IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"expected the shapes of a Vid2World model in {published.path}, found others ({error})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{error}; the checkpoint is {published.path}") from error
    what = f"exactly the {len(expected)} weights of its kind in {published.path}"
    check_shapes(what, _read_shapes(published.shapes), _read_shapes(expected))
    with torch.device("meta"):
        model = Vid2World(cfg)
    prompt = embed_empty_prompt(published, text)  # first, since the weights below stay in memory
    _fill(model, sources(model), published)
    model.load_state_dict({PROMPT: prompt}, strict=False, assign=True)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def embed_empty_prompt(published: Published, text: TextConfig) -> Tensor:
    """Return a checkpoint's embedding of the empty prompt, from its text tower: (L, D).

    The file is opened separately, so that the memory of the text tower is freed at once.
    """
    with torch.device("meta"):
        tower = ClipTextTower(text.clip, text.vocabulary)
    path = published.path
    _fill(
        tower,
        tower_sources(tower, "text_tower."),
        _find(path, open_weights(path), published.averaged),
    )
    embedding: Tensor = tower.eval()(empty_prompt(text.vocabulary))
    return embedding[0].clone()


def _fill(module: nn.Module, wanted: Mapping[str, Source], published: Published) -> None:
    """Set a module's weights, which must be finite floating-point numbers."""
    read = {source.name: published.weights[source.name] for source in wanted.values()}
    if whole := sorted(set(read) - set(floats(read))):
        raise ValueError(
            f"expected floating-point weights in {published.path}, found {read[whole[0]].dtype} in "
            f"{whole[0]}; take weights that are not quantised"
        )
    check_finite(published.path, read)
    fill(module, wanted, published.weights)


def _read_shapes(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes without those of the schedule's tables."""
    return {name: shape for name, shape in shapes.items() if name not in UNREAD_TABLES}
