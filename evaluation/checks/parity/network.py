"""The denoising network, its causalization and its training loss, compared with the reference."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from v2w_gym.configs.model import UNetConfig
from v2w_gym.configs.published import PUBLISHED
from v2w_gym.evaluation.checks.parity.towers import FORWARD, fill, shapes_of
from v2w_gym.evaluation.checks.parity.vectors import Comparison, Tolerance, Vector, compare
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.vid2world.clip_towers import TEXT_LENGTH
from v2w_gym.world_models.vid2world.layers import Context, ContextKeys
from v2w_gym.world_models.vid2world.published.describe import action_kind, describe_unet, is_causal
from v2w_gym.world_models.vid2world.published.layout import NETWORK, base_of
from v2w_gym.world_models.vid2world.published.quirks import causal_output, tokens_by_frame
from v2w_gym.world_models.vid2world.published.transfer import causal_weights
from v2w_gym.world_models.vid2world.published.weight_names import Shape, Source, unet_sources
from v2w_gym.world_models.vid2world.unet import Conditioning, UNet

NO_GRADIENT = 1e-6
"""Below this a reference gradient is rounding noise: a group norm of one channel per group, as the
narrowest vectors have, takes away what was added to that channel, embeddings and biases alike."""
MODEL = PUBLISHED["google_robot"]
SCHEDULE = NoiseSchedule(MODEL.diffusion)


@torch.no_grad()
def unet(vector: Vector) -> Iterator[Comparison]:
    """Compare one forward pass for each window of the vector."""
    network = load_network(vector)
    for window in sorted(vector.info["windows"]):
        velocity = _forward(network, vector, f"in/{window}/")
        yield vector.compare(f"{window}/y", velocity, FORWARD)
    if "in/wrapper/x_noisy" in vector.tensors:  # actions as recorded, the frame apart
        noisy, levels = vector.frames("in/wrapper/x_noisy"), vector.tensor("in/wrapper/timesteps")
        velocity = network(noisy, levels, _conditioning(network, vector, "in/wrapper/"))
        yield vector.compare("wrapper/y", velocity.transpose(1, 2), FORWARD)


@torch.no_grad()
def weight_transfer(vector: Vector) -> Iterator[Comparison]:
    """Compare the causal weights made in each mode, and what the network gives with them."""
    base = load_network(vector).state_dict()
    shapes = shapes_of(vector.weights(NETWORK))
    network = _make(describe_unet(shapes, MODEL.unet), shapes).eval()
    sources = _sources(network)
    for mode in ("shift", "masked", "extrapolative"):
        weights = {**causal_weights(base, mode), **causal_output(base, mode, 2)}
        network.load_state_dict(weights, strict=False)  # a mask hides the new action layers
        ours = {
            f"{mode}/{NETWORK}{source.name}": network.get_parameter(name).reshape(source.shape)
            for name, source in sources.items()
        }
        yield from vector.compare_given(ours, Tolerance(2**-23))
        yield vector.compare(f"{mode}/y", _forward(network, vector, "in/"), FORWARD)


def training_loss(vector: Vector) -> Iterator[Comparison]:
    """Compare the loss, every gradient's norm, and one step of the optimiser."""
    network = load_network(vector).requires_grad_(True)
    levels, noise = vector.tensor("in/t"), vector.frames("in/noise")
    scaled = SCHEDULE.rescaled(vector.frames("in/z"), levels)
    noisy = SCHEDULE.add_noise(scaled, noise, levels)
    target = SCHEDULE.velocity(scaled, noise, levels)
    output = network(noisy, levels, _conditioning(network, vector, "in/"))
    per_frame = (output - target).square().mean((2, 3, 4))  # (B, T)
    per_frame.mean().backward()
    for name, ours in (("x_start_rescaled", scaled), ("x_noisy", noisy), ("target", target)):
        yield vector.compare(name, ours.transpose(1, 2), Tolerance(1e-6))
    yield vector.compare("model_output", output.transpose(1, 2), FORWARD)
    yield vector.compare("loss_per_frame", per_frame, Tolerance(1e-5))
    yield vector.compare("loss", per_frame.mean(), Tolerance(1e-5))
    yield from _gradients(vector, network)
    yield from _optimiser_step(vector, network)


def load_network(vector: Vector) -> UNet:
    """Return the network that has the vector's weights, which tell its sizes.

    Raises:
        ValueError: Weights that fit no network of ours.
    """
    weights = vector.weights(NETWORK)
    shapes = shapes_of(weights)
    cfg, causal = describe_unet(shapes, MODEL.unet), is_causal(shapes)
    with torch.device("meta"):
        network = _make(cfg if causal else base_of(cfg), shapes)
    return fill(network, _sources(network, NETWORK, causal=causal), weights)


def read_context(network: UNet, tokens: Tensor, frames: int) -> tuple[ContextKeys, ...]:
    """Read tokens (B, 77 + M, D), a prompt's and an image's, for T = `frames`."""
    image = tokens_by_frame(tokens[:, TEXT_LENGTH:], frames).flatten(0, 1)
    return network.context_keys(Context(tokens[:, :TEXT_LENGTH], image))


def shifted(actions: Tensor) -> Tensor:
    """Give each frame the action before it: zeros, then all of (B, T, A) but the last."""
    return torch.cat([torch.zeros_like(actions[:, :1]), actions[:, :-1]], dim=1)


def _make(cfg: UNetConfig, shapes: Mapping[str, Shape]) -> UNet:
    embedding, actions = action_kind(shapes) if is_causal(shapes) else (cfg.action_embedding, 13)
    latent_channels = shapes[f"{NETWORK}input_blocks.0.0.weight"][1] // 2  # noisy and the frame's
    return UNet(replace(cfg, action_embedding=embedding), latent_channels, actions)


def _sources(network: UNet, prefix: str = "", *, causal: bool = True) -> dict[str, Source]:
    sources = unet_sources(shapes_of(network.state_dict()), causal=causal)
    return {name: replace(source, name=prefix + source.name) for name, source in sources.items()}


def _forward(network: UNet, vector: Vector, where: str) -> Tensor:
    """Pass `x`, noisy latents and the conditioning frame's, as the reference's network does."""
    noisy, frame = vector.frames(f"{where}x").chunk(2, dim=2)
    levels = vector.tensor(f"{where}timesteps")
    levels = levels[:, None].expand(noisy.shape[:2]) if levels.ndim == 1 else levels
    conditioning = _conditioning(network, vector, where, frame)
    return network(noisy, levels, conditioning).transpose(1, 2)


def _conditioning(
    network: UNet, vector: Vector, where: str, frame: Tensor | None = None
) -> Conditioning:
    """Gather what lies at `where`; `action` is shifted already, `action_raw` is not."""
    frame = vector.frames(f"{where}c_concat") if frame is None else frame
    given = {name: vector.tensors.get(where + name) for name in ("action", "action_mask", "fs")}
    if f"{where}action_raw" in vector.tensors:
        given["action"] = shifted(vector.tensors[f"{where}action_raw"])
    if given["fs"] is None:
        given["fs"] = torch.full((len(frame),), vector.info["config"]["default_fs"])
    own = f"{where}context" in vector.tensors
    tokens = vector.tensor(f"{where}context" if own else "in/context")
    context = read_context(network, tokens, frame.shape[1])
    return Conditioning(frame, given["action"], given["action_mask"], given["fs"], context)


def _gradients(vector: Vector, network: UNet) -> Iterator[Comparison]:
    gradients = {
        source.name: parameter.grad.clone().reshape(source.shape)  # clipped in place, later
        for name, source in _sources(network).items()
        if (parameter := network.get_parameter(name)).grad is not None
    }
    clear, none = Tolerance(1e-4), Tolerance(0.0, NO_GRADIENT)
    for name in sorted(name for name in vector.tensors if name.startswith("out/grad/")):
        reference, ours = vector.tensor(name), gradients[name.removeprefix("out/grad/")]
        limits = none if reference.abs().max() < NO_GRADIENT else clear
        yield compare(name.removeprefix("out/"), ours, reference, limits)
    norms = torch.stack([gradients[n].norm() for n in vector.info["grad_norm_parameter_order"]])
    reference = vector.tensor("out/grad_norms")
    is_clear = reference >= NO_GRADIENT
    ratios = norms[is_clear] / reference[is_clear]
    yield compare("grad_norms", ratios, torch.ones_like(ratios), clear)
    yield compare("grad_norms of none", norms[~is_clear], reference[~is_clear], none)
    yield vector.compare("total_grad_norm", norms.norm(), clear)


def _optimiser_step(vector: Vector, network: UNet) -> Iterator[Comparison]:
    """Take one step of the published optimiser; near a gradient of zero its sign is chance."""
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    torch.optim.AdamW(network.parameters(), lr=1e-5).step()
    for name, source in _sources(network).items():
        reference = vector.tensors.get(f"out/adamw_delta/{source.name}")
        if reference is not None:
            clear = vector.tensor(f"out/grad/{source.name}").abs() >= NO_GRADIENT
            ours = (network.get_parameter(name).detach() - before[name]).reshape(source.shape)
            limits = Tolerance(0.0, 1e-7)
            yield compare(f"adamw_delta/{source.name}", ours[clear], reference[clear], limits)
