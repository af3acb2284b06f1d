"""Initialise RT-1's image encoder with an EfficientNet that was trained on ImageNet."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.world_models.checkpoint import check_finite
from v2w_gym.world_models.downloads import check_download
from v2w_gym.world_models.weight_files import read_safetensors

UNUSED = re.compile(r"classifier\..*|.*\.num_batches_tracked")
"""Weights that are ignored: the classifier, and the counters of batch norms."""


def load_imagenet(network: RT1Network, path: Path) -> None:
    """Copy the weights of timm's `tf_efficientnet_b3` (or another of its sizes) into the encoder.

    FiLM layers, which start as the identity, and the layers after the encoder do not change.

    Args:
        network: A network whose encoder has the sizes of the file.
        path: timm's `model.safetensors`.

    Raises:
        FileNotFoundError: No file at `path`.
        ValueError: The file is no safetensors file or damaged, or its weights are not finite or do
            not fit the encoder.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected timm's EfficientNet weights at {path}, found no file")
    try:
        check_download(path)
        given = read_safetensors(path)
        check_finite(path, given)
    except ValueError as error:
        raise ValueError(f"expected safetensors weights in {path}, found this: {error}") from error
    wanted = network.encoder.state_dict()
    places = {
        f"{ours}.{kind}": f"{theirs}.{kind}"
        for ours, theirs in timm_names(network.cfg)
        for kind in ("weight", "bias", "running_mean", "running_var")
        if f"{ours}.{kind}" in wanted
    }
    unknown = [name for name in set(given) - set(places.values()) if not UNUSED.fullmatch(name)]
    if unknown:
        raise ValueError(
            f"expected only weights of an EfficientNet of the encoder's sizes in {path}, found "
            f"{len(unknown)} more, such as {min(unknown)}"
        )
    for ours, theirs in places.items():
        _copy(wanted[ours], given.get(theirs), f"{theirs} in {path}")


def timm_names(cfg: RT1Config) -> Iterator[tuple[str, str]]:
    """Yield the name of every layer in the encoder, and timm's name for it."""
    yield from (("stem.conv", "conv_stem"), ("stem.norm", "bn1"))
    stages = enumerate(zip(cfg.repeats, cfg.expansions, strict=True))
    blocks = ((s, b, expansion) for s, (repeats, expansion) in stages for b in range(repeats))
    for place, (stage, block, expansion) in enumerate(blocks):
        ours, theirs = f"blocks.{place}", f"blocks.{stage}.{block}"
        names = [("depthwise", "conv_dw"), ("project", "conv_pw")]
        if expansion != 1:
            names = [("expand", "conv_pw"), ("depthwise", "conv_dw"), ("project", "conv_pwl")]
        for number, (ourname, theirname) in enumerate(names, start=1):
            yield f"{ours}.{ourname}.conv", f"{theirs}.{theirname}"
            yield f"{ours}.{ourname}.norm", f"{theirs}.bn{number}"
        for name in ("reduce", "expand"):
            yield f"{ours}.squeeze.{name}", f"{theirs}.se.conv_{name}"
    yield from (("top.conv", "conv_head"), ("top.norm", "bn2"))


@torch.no_grad()
def _copy(target: Tensor, source: Tensor | None, what: str) -> None:
    """Copy a weight; timm stores the linear layers of a squeeze as 1 x 1 convolutions."""
    if source is not None and source.shape == (*target.shape, 1, 1):
        source = source.flatten(1)
    if source is None or source.shape != target.shape:
        found = "none" if source is None else tuple(source.shape)
        raise ValueError(f"expected {what} of shape {tuple(target.shape)}, found {found}")
    target.copy_(source)
