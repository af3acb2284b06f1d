"""Outputs of the networks, whose sizes follow from the shapes of a vector's weights."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2w_gym.configs.published import PUBLISHED
from v2w_gym.evaluation.checks.parity.vectors import Vector
from v2w_gym.world_models.checkpoint import Shapes, check_shapes, shapes_of
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.vid2world import clip_towers as towers
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder
from v2w_gym.world_models.vid2world.layers import Context
from v2w_gym.world_models.vid2world.published import describe
from v2w_gym.world_models.vid2world.published.layout import NETWORK, base_of, fill, tower_sources
from v2w_gym.world_models.vid2world.published.quirks import causal_output, tokens_by_frame
from v2w_gym.world_models.vid2world.published.transfer import MODES, causal_weights
from v2w_gym.world_models.vid2world.published.weight_names import Source, dead_shapes, unet_sources
from v2w_gym.world_models.vid2world.unet import Conditioning, UNet

Sources: TypeAlias = Mapping[str, Source]
MODEL = PUBLISHED["google_robot"]
SCHEDULE = NoiseSchedule(MODEL.diffusion)
NO_GRADIENT = 1e-6
"""Below this a reference gradient is rounding noise, and an optimiser step's sign is chance."""


def vae(vector: Vector) -> dict[str, Tensor]:
    """Return every stage of encoding, and decoded frames before the clamp."""
    weights = vector.weights("first_stage_model.")
    cfg = describe.describe_autoencoder(shapes_of(weights))
    autoencoder = KLAutoencoder(cfg)
    _fill(autoencoder, tower_sources(autoencoder, "autoencoder.", autoencoder.sizes), weights)
    network, frames = autoencoder.vae, vector["in/x"]
    posterior = network.encode(frames).latent_dist
    scaled = autoencoder.encode(frames, vector["in/noise"])
    return {
        "encoder_h": network.encoder(frames),
        "moments": posterior.parameters,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "mode": autoencoder.encode(frames) / autoencoder.scale,
        "sample": scaled / autoencoder.scale,
        "z_scaled": scaled,
        "decode": network.decode(vector["in/z"]).sample,
        "reconstruct": network.decode(posterior.mode()).sample,
    }


def resampler(vector: Vector) -> dict[str, Tensor]:
    """Return the image tokens computed from CLIP's tokens."""
    weights, config = vector.weights("image_proj_model."), vector.info["config"]
    cfg = describe.describe_resampler(shapes_of(weights), config["dim_head"])
    network = towers.Resampler(cfg, config["embedding_dim"])
    _fill(network, tower_sources(network, "resampler."), weights)
    return {"y": network(vector["in/x"])}


def clip_image(vector: Vector) -> dict[str, Tensor]:
    """Return preprocessed images, and tokens of exactly the reference's preprocessed images."""
    weights, heads = vector.weights(), vector.info["config"]["heads"]
    cfg = describe.describe_clip(shapes_of(weights), "embedder.model.visual.", heads)
    tower = towers.ClipImageTower(cfg)
    _fill(tower, tower_sources(tower, "image_tower."), weights, dead_shapes(cfg, cfg, 0, 0))
    large, small = vector["out/preprocessed"], vector["out/small_preprocessed"]
    return {
        "preprocessed": tower.preprocess(vector["in/image_u8"].float() / 127.5 - 1),
        "small_preprocessed": tower.preprocess(vector["in/image_small"]),
        "tokens": tower(large),
        "tokens_batch2": tower(torch.cat([large, small])),
    }


def clip_text(vector: Vector) -> dict[str, Tensor]:
    """Return the embedding of prompts, which does not use the last block."""
    weights, config = vector.weights(), vector.info["config"]
    whole = describe.describe_clip(shapes_of(weights), "cond_stage_model.model.", config["heads"])
    cfg = replace(whole, layers=whole.layers - 1)
    tower = towers.ClipTextTower(cfg, config["vocab_size"])
    _fill(tower, tower_sources(tower, "text_tower."), weights, dead_shapes(cfg, cfg, 0, 0))
    return {"embedding": tower(vector["in/tokens"])}


def unet(vector: Vector) -> dict[str, Tensor]:
    """Return the velocity of every window."""
    network = load_unet(vector)
    windows = [name.removesuffix("y") for name in vector.outputs]
    return {f"{w}y": velocity(network, vector, f"in/{w}").transpose(1, 2) for w in windows}


def weight_transfer(vector: Vector) -> dict[str, Tensor]:
    """Return the causal weights of each mode, and the velocity that they give."""
    base, shapes = load_unet(vector).state_dict(), shapes_of(vector.weights(NETWORK))
    network = _make_unet(shapes, MODEL.unet.action_embedding, vector["in/action"].shape[-1])
    ours: dict[str, Tensor] = {}
    for mode in MODES:
        weights = causal_weights(base, mode) | causal_output(base, mode, 2)
        # The action layers stay random: the mask hides them.
        network.load_state_dict(weights, strict=False, assign=True)
        named = _by_published_name(network, network.state_dict())
        ours |= {f"{mode}/{NETWORK}{name}": weight for name, weight in named.items()}
        ours[f"{mode}/y"] = velocity(network, vector).transpose(1, 2)
    return ours


@torch.enable_grad()
def training_loss(vector: Vector) -> dict[str, Tensor]:
    """Return the loss, its gradients, and how one step of the optimiser changes the weights."""
    network, levels = load_unet(vector).requires_grad_(True), vector["in/t"]
    scaled, noise = SCHEDULE.rescaled(vector.frames("in/z"), levels), vector.frames("in/noise")
    noisy = SCHEDULE.add_noise(scaled, noise, levels)
    target = SCHEDULE.velocity(scaled, noise, levels)
    output = velocity(network, vector.with_inputs(x_noisy=noisy.transpose(1, 2), timesteps=levels))
    per_frame = (output - target).square().mean((2, 3, 4))  # (B, T)
    per_frame.mean().backward()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradients = {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    torch.optim.AdamW(network.parameters(), lr=1e-5).step()
    change = {name: value - before[name] for name, value in network.state_dict().items()}
    gradients, change = (_by_published_name(network, values) for values in (gradients, change))
    norms = torch.stack([gradients[n].norm() for n in vector.info["grad_norm_parameter_order"]])
    ours = {
        "x_start_rescaled": scaled.transpose(1, 2),
        "x_noisy": noisy.transpose(1, 2),
        "target": target.transpose(1, 2),
        "model_output": output.transpose(1, 2),
        "loss_per_frame": per_frame,
        "loss": per_frame.mean(),
        "grad_norms": norms,
        "total_grad_norm": norms.norm(),
    }
    for name, gradient in gradients.items():
        ours[f"grad/{name}"] = gradient
        if (reference := vector.outputs.get(f"adamw_delta/{name}")) is not None:
            clear = vector[f"out/grad/{name}"].abs() >= NO_GRADIENT
            ours[f"adamw_delta/{name}"] = change[name].where(clear, reference)
    return ours


def load_unet(vector: Vector) -> UNet:
    """Return the network that has exactly the vector's weights."""
    weights = vector.weights(NETWORK)
    shapes = shapes_of(weights)
    causal = describe.is_causal(shapes)
    network = _make_unet(shapes, *(describe.action_kind(shapes) if causal else ("none", 0)))
    sources = unet_sources(shapes_of(network.state_dict()), causal=causal)
    _fill(network, sources, {n.removeprefix(NETWORK): w for n, w in weights.items()})
    return network


def velocity(network: UNet, vector: Vector, where: str = "in/") -> Tensor:
    """Return the velocity (G B, T, C, h, w) of the window at `where`.

    G is 2 where the context and the mask are those of two guidance branches.
    """
    inputs = vector.tensors.get
    if f"{where}x" in vector.tensors:  # noisy latents, and those of the conditioning frame
        noisy, frame = vector.frames(f"{where}x").chunk(2, dim=2)
    else:
        noisy, frame = vector.frames(f"{where}x_noisy"), vector.frames(f"{where}c_concat")
    batch, frames = noisy.shape[:2]
    actions, raw, rate = (inputs(f"{where}{name}") for name in ("action", "action_raw", "fs"))
    if raw is not None:  # each frame gets the action before it, the first one gets zeros
        actions = F.pad(raw, (0, 0, 1, -1))[:, :frames]
    if rate is None:
        rate = torch.full((batch,), vector.info["config"]["default_fs"])
    tokens = vector[f"{where}context" if f"{where}context" in vector.tensors else "in/context"]
    text, image = tokens[:, : towers.TEXT_LENGTH], tokens[:, towers.TEXT_LENGTH :]
    branches = len(tokens) // batch
    conditioning = Conditioning(
        frame[:, :frames],
        None if actions is None else actions.repeat(branches, 1, 1),
        inputs(f"{where}action_mask"),
        rate.repeat(branches),
        network.context_keys(Context(text, tokens_by_frame(image, frames).flatten(0, 1))),
    )
    levels = vector[f"{where}timesteps"].reshape(batch, -1).expand(batch, frames)
    return network(noisy, levels.repeat(branches, 1), conditioning)


def _make_unet(shapes: Shapes, action_embedding: str, actions: int) -> UNet:
    """Make a network of these published shapes; one without actions is a base, not causal."""
    cfg = replace(describe.describe_unet(shapes, MODEL.unet), action_embedding=action_embedding)
    latent_channels = shapes[f"{NETWORK}input_blocks.0.0.weight"][1] // 2  # noisy and the frame's
    return UNet(cfg if actions else base_of(cfg), latent_channels, actions).eval()


def _by_published_name(network: UNet, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sources = unet_sources(shapes_of(network.state_dict()))
    return {sources[n].name: value.reshape(sources[n].shape) for n, value in values.items()}


def _fill(
    module: nn.Module, sources: Sources, weights: Mapping[str, Tensor], unread: Collection[str] = ()
) -> None:
    """Load exactly these weights into a module, except those in `unread`, which it lacks."""
    found = {name: shape for name, shape in shapes_of(weights).items() if name not in unread}
    expected = {source.name: source.shape for source in sources.values()}
    check_shapes(f"the weights of a {type(module).__name__}", found, expected)
    fill(module, sources, weights)
    module.eval().requires_grad_(False)
