"""Conversion of published checkpoints, and random checkpoints in the published format."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from v2w_gym.configs.names import lookup
from v2w_gym.configs.published import PUBLISHED, SIZES, ConvertConfig, RandomCheckpointConfig
from v2w_gym.configs.sampler import PRESETS
from v2w_gym.world_models.checkpoint import check_free, read_card
from v2w_gym.world_models.device import DTYPES
from v2w_gym.world_models.diffusion import published_buffers
from v2w_gym.world_models.files import check_writable, replacing, sha256_of
from v2w_gym.world_models.vid2world.layers import ActionEmbedding
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.published.layout import base_of, published_shapes, sources
from v2w_gym.world_models.vid2world.published.load import Published, load_published, read_published
from v2w_gym.world_models.vid2world.published.quirks import causal_output
from v2w_gym.world_models.vid2world.published.transfer import MODES, causal_weights
from v2w_gym.world_models.vid2world.published.weight_names import Shape
from v2w_gym.world_models.weight_files import files_of


def convert(cfg: ConvertConfig, checkpoint: Path) -> Path:
    """Convert the published checkpoint at `checkpoint`, without its unused weights.

    Weights stay in the file until they are written, so memory stays below the file's size.

    Returns:
        The new file; its card records the provenance.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A damaged file, another robot, a base without `transfer`, or an unknown choice
            of a setting.
        OSError: The disk is full.
    """
    output = Path(cfg.output)
    _check_paths(output, checkpoint)
    precision = lookup(DTYPES, cfg.precision, "precision")
    sampler = lookup(PRESETS, cfg.preset, "preset")
    check_writable(output.parent)
    published = read_published(checkpoint, cfg.averaged)
    if published.causal == (cfg.transfer is not None):
        found = "is causal already" if published.causal else "is not causal"
        raise ValueError(
            f"expected transfer={'|'.join(MODES)} and robot= for a base checkpoint, and no "
            f"transfer for others, found transfer={cfg.transfer}: {checkpoint} {found}"
        )
    model = load_published(published, cfg.robot)
    provenance = _provenance(published, model)
    if cfg.transfer is not None:
        model = causalize(model, cfg)
        provenance["transfer"] = {"mode": cfg.transfer, "order": cfg.order, "seed": cfg.seed}
    model = model.with_sampler(sampler)
    model.unet.to(precision)
    if model.context is not None:
        model.context.to(precision)
    model.save(output, provenance)
    return output


def _check_paths(output: Path, checkpoint: Path) -> None:
    """Check that `output` would overwrite no file but an earlier conversion."""
    if read_card(checkpoint) is not None:
        raise ValueError(
            f"expected a checkpoint in the published format, found a converted one: {checkpoint}"
        )
    check_free(output)
    if output.resolve() == checkpoint.resolve():
        raise ValueError(f"expected output to be another file than the checkpoint, found {output}")


def causalize(base: Vid2World, cfg: ConvertConfig) -> Vid2World:
    """Return a causal, action-conditioned model with the transferred weights of a base model.

    The action layers are initialised with `cfg.seed`.
    Source: Vid2World sections 4.1 and 4.2.

    Raises:
        ValueError: Unknown mode, or an order out of range for the kernels.
    """
    unet = replace(
        base.cfg.unet,
        causal=True,
        action_embedding=PUBLISHED[base.cfg.robot].unet.action_embedding,
        output_conv="height_causal" if cfg.height_causal else "plain",
    )
    with torch.device("meta"):
        model = Vid2World(replace(base.cfg, unet=unet))
    old = base.unet.state_dict()
    network = causal_weights(old, str(cfg.transfer), cfg.order)
    if cfg.height_causal:
        network |= causal_output(old, str(cfg.transfer), cfg.order)
    weights = {**base.state_dict(), **{f"unet.{name}": value for name, value in network.items()}}
    model.load_state_dict(weights, strict=False, assign=True)
    model.unet.action_embedding = _new_action_layers(model, cfg.seed)
    return model.eval().requires_grad_(False)


def write_random(cfg: RandomCheckpointConfig) -> Path:
    """Write a complete random checkpoint in the published format, including unused weights.

    No layer is zero: matrices preserve the variance of their input, biases are small, and norms are
    near one.

    Raises:
        ValueError: Unknown robot or size, or another file ending.
        OSError: The disk is full.
    """
    output = Path(cfg.output)
    write = lookup(WRITERS, output.suffix, "the ending of output")
    size = lookup(SIZES, cfg.size, "size")
    check_writable(output.parent)
    model = size.of(lookup(PUBLISHED, cfg.robot, "robot"))
    if cfg.base:
        model = replace(model, unet=base_of(model.unet))
    buffers = published_buffers(model.diffusion, zero_terminal_snr=not cfg.base)
    generator = torch.Generator().manual_seed(cfg.seed)
    weights = {
        name: buffers[name] if name in buffers else random_weight(name, shape, generator)
        for name, shape in published_shapes(model, size.text).items()
    }
    with replacing(output) as partial:
        try:
            write(weights, partial)
        except (RuntimeError, SafetensorError) as error:
            raise OSError(
                f"expected to write {output}, found {error}; is the disk full?"
            ) from error
    return output


def _new_action_layers(model: Vid2World, seed: int) -> ActionEmbedding:
    unet = model.cfg.unet
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        size = model.robot.action_size
        return ActionEmbedding(unet.action_embedding, size, unet.channels, 4 * unet.channels)


def _write_pickled(weights: Mapping[str, Tensor], path: Path) -> None:
    torch.save({"state_dict": dict(weights), "global_step": 0}, path)


def _write_safetensors(weights: Mapping[str, Tensor], path: Path) -> None:
    save_file(dict(weights), path)


WRITERS = {".ckpt": _write_pickled, ".safetensors": _write_safetensors}
"""Ending of a file in the published format -> its writer."""


def random_weight(name: str, shape: Shape, generator: torch.Generator) -> Tensor:
    """Return a weight such that what passes keeps its spread: small biases, norms near one."""
    values = torch.randn(shape, generator=generator)
    if values.ndim < 2:
        return 0.1 * values if name.endswith("bias") else 1 + 0.15 * values
    return values / values[0].numel() ** 0.5


def _provenance(published: Published, model: Vid2World) -> dict[str, Any]:
    """Return the source of the weights, and the numbers of kept and dropped ones."""
    read = {source.name for source in sources(model).values()}
    return {
        "source": published.path.name,
        "source_sha256": _sha256_of(published.path),
        "weights": published.chosen,
        "other_weights": list(published.others),
        "source_weights": len(published.weights),
        "kept_weights": len(read),
        "dropped": "text tower (its empty prompt is kept), dead weights, schedule tables",
    }


def _sha256_of(path: Path) -> str | dict[str, str]:
    """Return the sha256 of a file, or of each part of a sharded one by name."""
    files = files_of(path)
    return sha256_of(path) if files == [path] else {file.name: sha256_of(file) for file in files}
