"""The published checkpoints: read one, see what it is, and make a world model of it.

Which name is which weight stands in `layout`.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from configs.lookup import lookup
from configs.model import (
    ClipConfig,
    ContextConfig,
    KLAutoencoderConfig,
    ResamplerConfig,
    UNetConfig,
    WorldModelConfig,
)
from configs.released import RELEASED, TextConfig
from configs.robots import ROBOTS
from world_models.vid2world.clip import ClipTextTower, empty_prompt
from world_models.vid2world.layout import (
    NETWORK,
    PROMPT,
    base_of,
    fill,
    released_shapes,
    sources,
    text_sources,
)
from world_models.vid2world.model import Vid2World
from world_models.vid2world.released_names import Shape

CLIP_HEADS = 16
RESAMPLER_HEAD_CHANNELS = 64
INITIAL_ATTENTION_HEADS = 8
"""What shapes do not tell; the same in every published model."""


@dataclass(frozen=True)
class Released:
    """A checkpoint in the released format, not yet translated.

    Attributes:
        path: Where it lies.
        weights: Released name -> weight, read from the file when it is used.
    """

    path: Path
    weights: Mapping[str, Tensor]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Released name -> shape."""
        return {name: tuple(value.shape) for name, value in self.weights.items()}

    @property
    def causal(self) -> bool:
        """Whether it is a Vid2World model, and not the base that those come from."""
        return any(".conv3d." in name for name in self.weights)


def read_released(path: Path) -> Released:
    """Open a checkpoint without running code in it and without reading all of it.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Truncated, not a checkpoint, or holding more than tensors and plain values.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a checkpoint at {path}, found no such file")
    stored = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    for container, prefix in (("state_dict", ""), ("module", "_forward_module.")):
        if isinstance(stored.get(container), dict):
            stored = {k.removeprefix(prefix): v for k, v in stored[container].items()}
    weights = {name: value for name, value in stored.items() if isinstance(value, Tensor)}
    if not any(name.startswith(NETWORK) for name in weights):
        raise ValueError(
            f"expected a Vid2World or DynamiCrafter checkpoint at {path}, with weights named "
            f"{NETWORK}..., found {len(weights)} tensors {sorted(weights)[:3]}"
        )
    return Released(path, weights)


def load_released(released: Released, robot: str | None = None) -> Vid2World:
    """Make a model of a checkpoint; it shares the checkpoint's memory.

    The model of a base checkpoint is not causal and knows no actions: `causalize` goes on from it.

    Args:
        released: What `read_released` gave.
        robot: Whose model it should be; None reads it off the action layers.

    Raises:
        ValueError: Another robot's checkpoint, or missing, surplus or misshapen weights.
    """
    try:
        cfg, text = describe(released, robot), _describe_text(released.shapes)
    except KeyError as error:
        raise ValueError(
            f"expected weight {error.args[0]!r} in {released.path}, found none; the checkpoint is "
            "incomplete or of another model"
        ) from error
    _check_complete(released, released_shapes(cfg, text))
    with torch.device("meta"):
        model = Vid2World(cfg)
    fill(model, sources(model), released.weights)
    prompt = embed_empty_prompt(released.path, text)
    model.load_state_dict({PROMPT: prompt}, strict=False, assign=True)
    return model.eval().requires_grad_(False)


@torch.inference_mode()
def embed_empty_prompt(path: Path, text: TextConfig) -> Tensor:
    """Return what the text tower of a checkpoint makes of the empty prompt: (L, D).

    The file is opened apart for it, so that the memory of the tower is let go at once.
    """
    with torch.device("meta"):
        tower = ClipTextTower(text.clip, text.vocabulary)
    fill(tower, text_sources(tower), read_released(path).weights)
    embedding: Tensor = tower.eval()(empty_prompt(text.vocabulary))
    return embedding[0].clone()


def describe(released: Released, robot: str | None = None) -> WorldModelConfig:
    """Return the configuration of a checkpoint: its robot's published one, at its own sizes.

    Raises:
        KeyError: A weight that tells a size is missing.
        ValueError: An unknown robot, or not the one the checkpoint is of.
    """
    shapes = released.shapes
    name = _robot(released, robot)
    published = lookup(RELEASED, name, "robot")
    unet = _describe_unet(shapes, published.unet)
    return replace(
        published,
        kl_autoencoder=_describe_autoencoder(shapes),
        context=_describe_context(shapes),
        unet=unet if released.causal else base_of(unet),
    )


def _robot(released: Released, wanted: str | None) -> str:
    """Return whose model a checkpoint is, which must be the robot that is wanted, if any."""
    if not released.causal:
        if wanted is None:
            raise ValueError(
                f"expected robot= for {released.path}, a base checkpoint that knows no actions; "
                f"there are {sorted(RELEASED)}"
            )
        return wanted
    found = _action_kind(released.shapes)
    kinds = {(m.unet.action_embedding, ROBOTS[n].action_size): n for n, m in RELEASED.items()}
    if found not in kinds:
        raise ValueError(f"expected action layers of {kinds}, found {found} in {released.path}")
    if wanted not in (None, kinds[found]):
        size = ROBOTS[lookup(RELEASED, str(wanted), "robot").robot].action_size
        raise ValueError(
            f"expected a checkpoint of robot {wanted!r} ({size} action values), found one of "
            f"{kinds[found]!r} ({found[1]} action values) at {released.path}"
        )
    return kinds[found]


def _action_kind(shapes: Mapping[str, Shape]) -> tuple[str, int]:
    """Return how actions are embedded, and how many values they have."""
    table = shapes.get(NETWORK + "action_emb_preprocess.weight")
    if table is not None:
        return "table", table[0]
    return "linear", shapes[NETWORK + "action_emb_proj.0.weight"][1]


def _describe_unet(shapes: Mapping[str, Shape], published: UNetConfig) -> UNetConfig:
    channels = shapes[NETWORK + "input_blocks.0.0.weight"][0]
    widths: list[int] = []
    attention: list[int] = []
    blocks = level = 0
    for number in range(1, _count(shapes, NETWORK + r"input_blocks\.(\d+)\.")):
        place = f"{NETWORK}input_blocks.{number}."
        if place + "0.op.weight" in shapes:
            level += 1
            continue
        width = shapes[place + "0.out_layers.3.weight"][0]
        blocks += level == 0
        if len(widths) == level:
            widths.append(width // channels)
            if place + "1.proj_in.weight" in shapes:
                attention.append(2**level)
    middle = NETWORK + "middle_block.1.transformer_blocks.0."
    inner = shapes[NETWORK + "init_attn.0.proj_in.weight"][0]
    return replace(
        published,
        channels=channels,
        channel_multipliers=tuple(widths),
        blocks=blocks,
        attention_sizes=tuple(attention),
        head_channels=inner // INITIAL_ATTENTION_HEADS,
        context_channels=shapes[middle + "attn2.to_k.weight"][1],
    )


def _describe_autoencoder(shapes: Mapping[str, Shape]) -> KLAutoencoderConfig:
    place = "first_stage_model.encoder."
    channels = shapes[place + "conv_in.weight"][0]
    levels = _count(shapes, place.replace(".", r"\.") + r"down\.(\d+)\.")
    widths = [shapes[f"{place}down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    return KLAutoencoderConfig(
        channels=channels,
        channel_multipliers=tuple(width // channels for width in widths),
        blocks=_count(shapes, place.replace(".", r"\.") + r"down\.0\.block\.(\d+)\."),
        latent_channels=shapes["first_stage_model.post_quant_conv.weight"][0],
    )


def _describe_context(shapes: Mapping[str, Shape]) -> ContextConfig:
    latents = shapes["image_proj_model.latents"]
    resampler = ResamplerConfig(
        channels=latents[2],
        layers=_count(shapes, r"image_proj_model\.layers\.(\d+)\."),
        heads=shapes["image_proj_model.layers.0.0.to_q.weight"][0] // RESAMPLER_HEAD_CHANNELS,
        head_channels=RESAMPLER_HEAD_CHANNELS,
        hidden=shapes["image_proj_model.layers.0.1.1.weight"][0],
        tokens=latents[1],
        out_channels=shapes["image_proj_model.proj_out.weight"][0],
    )
    clip = _describe_clip(shapes, "embedder.model.visual.")
    return ContextConfig(clip, resampler, shapes["cond_stage_model.model.positional_embedding"][0])


def _describe_clip(shapes: Mapping[str, Shape], place: str) -> ClipConfig:
    hidden, width = shapes[f"{place}transformer.resblocks.0.mlp.c_fc.weight"]
    layers = _count(shapes, place.replace(".", r"\.") + r"transformer\.resblocks\.(\d+)\.")
    return ClipConfig(width=width, layers=layers, heads=CLIP_HEADS, hidden=hidden)


def _describe_text(shapes: Mapping[str, Shape]) -> TextConfig:
    place = "cond_stage_model.model."
    clip = _describe_clip(shapes, place)
    return TextConfig(
        clip=replace(clip, layers=clip.layers - 1),
        vocabulary=shapes[place + "token_embedding.weight"][0],
        joint=shapes[place + "text_projection"][1],
    )


def _count(shapes: Mapping[str, Shape], pattern: str) -> int:
    """Return one more than the largest number that `pattern` finds in a name."""
    found = (re.match(pattern, name) for name in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def _check_complete(released: Released, expected: Mapping[str, Shape]) -> None:
    """Refuse a checkpoint that is not exactly what its sizes call for."""
    found = released.shapes
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    misshapen = [n for n in expected if n in found and found[n] != expected[n]]
    if missing or surplus:
        raise ValueError(
            f"expected exactly the {len(expected)} weights of its kind in {released.path}, found "
            f"{len(missing)} missing {missing[:3]} and {len(surplus)} unknown {surplus[:3]}"
        )
    if misshapen:
        name = misshapen[0]
        raise ValueError(
            f"expected {name} of shape {expected[name]} in {released.path}, found {found[name]} "
            f"({len(misshapen)} weights of another shape)"
        )


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"expected whole safetensors weights at {path}, found {error}") from error


def _read_pickled(path: Path) -> dict[str, Any]:
    try:
        stored = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"expected only tensors and plain values in {path}, found other Python objects, which "
            "could run code; open it where you trust it and save its state_dict alone "
            f"({str(error).partition(chr(10))[0]})"
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(
            f"expected a whole PyTorch checkpoint at {path}, found {_first_line(error)}; it is "
            "truncated or something else"
        ) from error
    if not isinstance(stored, dict):
        raise ValueError(
            f"expected a checkpoint with named weights at {path}, found {type(stored)}"
        )
    return stored


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
