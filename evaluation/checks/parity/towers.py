"""The autoencoder and the conditioning towers, compared with the reference implementation.

Their sizes are read off the weights, as those of a published checkpoint are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from v2w_gym.evaluation.checks.parity.vectors import Comparison, Tolerance, Vector
from v2w_gym.world_models.vid2world.clip_towers import ClipImageTower, ClipTextTower, Resampler
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder
from v2w_gym.world_models.vid2world.published.describe import (
    describe_autoencoder,
    describe_clip,
    describe_resampler,
)
from v2w_gym.world_models.vid2world.published.weight_names import (
    Shape,
    Source,
    dead_shapes,
    tower_source,
)

Module = TypeVar("Module", bound=nn.Module)
FORWARD, CLIP_FORWARD = Tolerance(1e-5, 2e-5), Tolerance(1e-5, 3e-5)
PIXELS = Tolerance(0.0, 3e-5)


@torch.no_grad()
def vae(vector: Vector) -> Iterator[Comparison]:
    """Compare the autoencoder: every stage of encoding, and decoding before the clamp."""
    weights = vector.weights("first_stage_model.")
    cfg = describe_autoencoder(shapes_of(weights))
    sizes = len(cfg.channel_multipliers)
    autoencoder = _load(lambda: KLAutoencoder(cfg), "autoencoder.", weights, sizes=sizes)
    frames, noise = vector.tensor("in/x"), vector.tensor("in/noise")
    network = autoencoder.vae
    posterior = network.encode(frames).latent_dist
    scaled = autoencoder.encode(frames, noise)
    ours = {
        "encoder_h": network.encoder(frames),
        "moments": posterior.parameters,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "mode": autoencoder.encode(frames) / autoencoder.scale,
        "sample": scaled / autoencoder.scale,
        "z_scaled": scaled,
        "decode": network.decode(vector.tensor("in/z")).sample,
        "reconstruct": network.decode(posterior.mode()).sample,
    }
    for name, tensor in ours.items():
        yield vector.compare(name, tensor, FORWARD)


@torch.no_grad()
def resampler(vector: Vector) -> Iterator[Comparison]:
    """Compare the network that makes few tokens of an image's CLIP tokens."""
    weights, config = vector.weights("image_proj_model."), vector.info["config"]
    cfg = describe_resampler(shapes_of(weights), config["dim_head"])
    width = config["embedding_dim"]
    network = _load(lambda: Resampler(cfg, width), "resampler.", weights)
    yield vector.compare("y", network(vector.tensor("in/x")), FORWARD)


@torch.no_grad()
def clip_image(vector: Vector) -> Iterator[Comparison]:
    """Compare what an image becomes before CLIP, and its tokens given exactly that."""
    weights, config = vector.weights(), vector.info["config"]
    cfg = describe_clip(shapes_of(weights), "embedder.model.visual.", config["heads"])
    dead = dead_shapes(cfg, cfg, vocabulary=0, joint=config["output_dim"])
    tower = _load(lambda: ClipImageTower(cfg), "image_tower.", weights, dead)
    image = vector.tensor("in/image_u8").float() / 127.5 - 1
    yield vector.compare("preprocessed", tower.preprocess(image), PIXELS)
    small = tower.preprocess(vector.tensor("in/image_small"))
    yield vector.compare("small_preprocessed", small, PIXELS)
    given = [vector.tensor(f"out/{name}") for name in ("preprocessed", "small_preprocessed")]
    yield vector.compare("tokens", tower(given[0]), CLIP_FORWARD)
    yield vector.compare("tokens_batch2", tower(torch.cat(given)), CLIP_FORWARD)


@torch.no_grad()
def clip_text(vector: Vector) -> Iterator[Comparison]:
    """Compare the embedding of a prompt; the last block is not read."""
    weights, config = vector.weights(), vector.info["config"]
    tower = describe_clip(shapes_of(weights), "cond_stage_model.model.", config["heads"])
    cfg = replace(tower, layers=tower.layers - 1)
    words = config["vocab_size"]
    dead = dead_shapes(cfg, cfg, words, config["output_dim"])
    network = _load(lambda: ClipTextTower(cfg, words), "text_tower.", weights, dead)
    yield vector.compare("embedding", network(vector.tensor("in/tokens")), CLIP_FORWARD)


def fill(
    module: Module,
    sources: Mapping[str, Source],
    weights: Mapping[str, Tensor],
    dead: Mapping[str, Shape] | None = None,
) -> Module:
    """Give a module on the meta device its weights, and make it ready for inference.

    Args:
        module: What gets them.
        sources: Name of each of its weights -> where that lies in `weights`.
        weights: All weights of the reference, by its own names.
        dead: Name and shape of those that nothing of ours reads.

    Raises:
        ValueError: Weights that are missing, left over, or of another shape.
    """
    expected = {(source.name, source.shape) for source in sources.values()}
    found = set(shapes_of(weights).items()) - set((dead or {}).items())
    if expected != found:
        odd = sorted(expected ^ found)[:5]
        raise ValueError(f"expected the weights of {type(module).__name__}, found others: {odd}")
    shapes = shapes_of(module.state_dict())
    filled = {name: s.take(weights[s.name], shapes[name]) for name, s in sources.items()}
    module.load_state_dict(filled, assign=True)
    return module.eval().requires_grad_(False)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shape of each tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _load(
    make: Callable[[], Module],
    prefix: str,
    weights: Mapping[str, Tensor],
    dead: Mapping[str, Shape] | None = None,
    sizes: int = 0,
) -> Module:
    with torch.device("meta"):
        module = make()
    shapes = shapes_of(module.state_dict())
    sources = {name: tower_source(prefix + name, shape, sizes) for name, shape in shapes.items()}
    return fill(module, sources, weights, dead)
