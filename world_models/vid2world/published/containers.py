"""Search for a model's weights in the files of training frameworks.

Frameworks put weights into containers (`state_dict`, `module`, `model`), and add the names of
wrappers to their names. They may keep a plain and an averaged (EMA) copy side by side.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

NETWORK = "model.diffusion_model."
WRAPPERS = re.compile(
    r"(?<![^.])(module|_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""Parts of a name from DDP, torch.compile, Lightning's strategies, FSDP and checkpointing."""
INNER = re.compile(r"(?<![^.])(?<!model\.)diffusion_model\.")
"""The network's name in a copy of the part inside `model`."""
AVERAGED = re.compile(r"(?<![a-z])(ema|swa|averaged?)(?![a-z])", re.IGNORECASE)
LDM_AVERAGE = "model_ema."
"""Latent Diffusion's averaged copies, followed by the name after `model.` without dots."""
MAIN = "state_dict"
REPLACED = "current_model_state"
"""Lightning's averaging callback stores the plain weights here, and the averaged in `MAIN`."""
DEPTH = 4
"""Most levels of nested containers."""


@dataclass(frozen=True)
class Found:
    """One set of weights in a file.

    Attributes:
        place: Its container, such as `state_dict`; `the file` if there is none.
        averaged: Whether it is a moving average (EMA) of the weights.
        weights: Name -> weight, without wrappers and containers.
    """

    place: str
    averaged: bool
    weights: Mapping[str, Tensor]


def find_weights(stored: Mapping[str, Any]) -> list[Found]:
    """Return every set of weights that holds a denoising network, the file's main one first.

    The main set completes a set that lacks parts, such as an average of the network alone.

    Raises:
        ValueError: Two weights with the same name.
    """
    found = [one for place, tensors in _containers(stored) for one in _sets(place, tensors)]
    if any(REPLACED in one.place.split(".") for one in found):
        found = [Found(f.place, REPLACED not in f.place.split("."), f.weights) for f in found]
    found.sort(key=_rank)
    main = next((one.weights for one in found if not one.averaged), {})
    return [Found(one.place, one.averaged, {**main, **one.weights}) for one in found]


def choose(found: list[Found], averaged: bool | None) -> Found:
    """Return the averaged or the plain weights; None for the main ones.

    Raises:
        ValueError: No such weights, or several sets.
    """
    if averaged is None:
        fitting = [one for one in found if _rank(one) == _rank(found[0])]
    else:
        fitting = [one for one in found if one.averaged == averaged]
    if len(fitting) == 1:
        return fitting[0]
    kind = {None: "", True: "averaged (EMA) ", False: "plain "}[averaged]
    places = [f"{one.place} ({'averaged' if one.averaged else 'plain'})" for one in found]
    raise ValueError(f"expected one set of {kind}weights, found {len(fitting)} among {places}")


def tensors_in(stored: Mapping[str, Any]) -> list[str]:
    """Return the names of all tensors, including those in containers."""
    return [name for _, tensors in _containers(stored) for name in tensors]


def _rank(one: Found) -> tuple[bool, bool]:
    return one.place.split(".")[0] != MAIN, one.averaged


def _containers(
    stored: Mapping[Any, Any], place: str = ""
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the place and the direct tensors of each nested mapping."""
    tensors = {k: v for k, v in stored.items() if isinstance(k, str) and isinstance(v, Tensor)}
    yield place or "the file", tensors
    if place.count(".") < DEPTH:
        for name, value in stored.items():
            if isinstance(name, str) and isinstance(value, dict):
                yield from _containers(value, f"{place}.{name}" if place else name)


def _sets(place: str, tensors: Mapping[str, Tensor]) -> Iterator[Found]:
    """Yield each set of weights in one container, grouped by the prefix of their names."""
    named = _without_wrappers(place, tensors)
    flat = {n: v for n, v in named.items() if n.startswith(LDM_AVERAGE)}
    named = {n: v for n, v in named.items() if n not in flat}
    starts = sorted({n.partition(NETWORK)[0] for n in named if NETWORK in n}, key=len, reverse=True)
    for start in starts:
        own = {n.removeprefix(start): v for n, v in named.items() if n.startswith(start)}
        named = {n: v for n, v in named.items() if not n.startswith(start)}
        where = f"{place}.{start}".rstrip(".")
        yield Found(where, bool(AVERAGED.search(where)), own)
        if average := _averaged_network(own, flat):
            yield Found(f"{where}.{LDM_AVERAGE}".rstrip("."), True, average)


def _averaged_network(own: Mapping[str, Tensor], flat: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return Latent Diffusion's averaged weights under the names of the plain ones."""
    names = {n: LDM_AVERAGE + n.removeprefix("model.").replace(".", "") for n in own}
    return {n: flat[short] for n, short in names.items() if short in flat and NETWORK in n}


def _without_wrappers(place: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for name, value in tensors.items():
        plain = INNER.sub(NETWORK, WRAPPERS.sub("", name))
        if plain in named:
            raise ValueError(f"expected each weight once in {place}, found {plain!r} twice")
        named[plain] = value
    return named
