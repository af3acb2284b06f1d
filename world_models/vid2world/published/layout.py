"""The names and shapes in a published checkpoint, and their counterparts in our models."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from v2w_gym.configs.model import UNetConfig, WorldModelConfig
from v2w_gym.configs.published import TextConfig
from v2w_gym.world_models.checkpoint import shapes_of
from v2w_gym.world_models.diffusion import published_buffers
from v2w_gym.world_models.vid2world.clip_towers import ClipTextTower
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.published.weight_names import (
    Shape,
    Source,
    dead_shapes,
    tower_source,
    unet_sources,
)

NETWORK = "model.diffusion_model."
PROMPT = "context.text"
"""The only tensor of ours that is not in a checkpoint; the text tower computes it."""


def base_of(cfg: UNetConfig) -> UNetConfig:
    """Return the settings of a base network: not causal, and without actions."""
    return replace(cfg, causal=False, action_embedding="none", output_conv="plain")


def sources(model: Vid2World) -> dict[str, Source]:
    """Return the source of each weight of a model in its published checkpoint.

    Raises:
        ValueError: The model is not of a published kind.
    """
    if model.cfg.kl_autoencoder is None or model.cfg.context is None:
        raise ValueError(
            "expected a model of the published kind, found one with its own autoencoder"
        )
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    network = {n.removeprefix("unet."): s for n, s in shapes.items() if n.startswith("unet.")}
    found = {
        f"unet.{name}": replace(source, name=NETWORK + source.name)
        for name, source in unet_sources(network, causal=model.cfg.unet.causal).items()
    }
    sizes = len(model.cfg.kl_autoencoder.channel_multipliers)
    for name, shape in shapes.items():
        if name not in found and name != PROMPT:
            found[name] = tower_source(name.removeprefix("context."), shape, sizes)
    return found


def tower_sources(tower: nn.Module, prefix: str, levels: int = 0) -> dict[str, Source]:
    """Return the source of each weight of a tower, see `tower_source`."""
    shapes = shapes_of(tower.state_dict())
    return {name: tower_source(prefix + name, shape, levels) for name, shape in shapes.items()}


def published_shapes(cfg: WorldModelConfig, text: TextConfig) -> dict[str, Shape]:
    """Return name -> shape of all weights in the published checkpoint of a model.

    Raises:
        ValueError: The model is not of a published kind.
    """
    if cfg.context is None:
        raise ValueError("expected a model of the published kind, found one without context")
    with torch.device("meta"):
        model, tower = Vid2World(cfg), ClipTextTower(text.clip, text.vocabulary)
    read = [*sources(model).values(), *tower_sources(tower, "text_tower.").values()]
    buffers = published_buffers(cfg.diffusion, zero_terminal_snr=True)
    return (
        {name: tuple(value.shape) for name, value in buffers.items()}
        | {source.name: source.shape for source in read}
        | dead_shapes(cfg.context.clip, text.clip, text.vocabulary, text.joint)
    )


def fill(
    module: nn.Module, wanted: Mapping[str, Source], weights: Mapping[str, torch.Tensor]
) -> None:
    """Set a module's weights from published ones; they share memory."""
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    translated = {
        name: source.take(weights[source.name].float(), shapes[name])
        for name, source in wanted.items()
    }
    module.load_state_dict(translated, strict=False, assign=True)
