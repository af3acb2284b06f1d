"""The denoising network, its causalization and its training loss, held against the reference."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from v2w_gym.configs.model import UNetConfig
from v2w_gym.configs.published import PUBLISHED
from v2w_gym.evaluation.checks.parity.golden import Comparison, GoldenCase, Tolerance
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.vid2world.clip import TEXT_LENGTH
from v2w_gym.world_models.vid2world.conditioning import Conditioning, Context, ContextKeys
from v2w_gym.world_models.vid2world.published.describe import INITIAL_ATTENTION_HEADS
from v2w_gym.world_models.vid2world.published.layout import NETWORK, fill
from v2w_gym.world_models.vid2world.published.quirks import causal_output, tokens_by_frame
from v2w_gym.world_models.vid2world.published.transfer import causal_weights
from v2w_gym.world_models.vid2world.published.weight_names import unet_sources
from v2w_gym.world_models.vid2world.unet import UNet

FORWARD = Tolerance(1e-5, 2e-5)
"""What one forward pass may differ by."""
NO_GRADIENT = 1e-6
"""Below this a golden gradient is rounding noise: a group norm of one channel per group, as the
narrowest cases have, takes away whatever was added to that channel, embeddings and biases alike."""
BUILT_IN: Mapping[str, object] = {
    "transformer_depth": 1,
    "use_linear": True,
    "temporal_conv": True,
    "temporal_attention": True,
    "temporal_selfatt_only": True,
    "use_relative_position": False,
    "image_cross_attention": True,
}
"""Choices of the reference's constructor that this network does not offer otherwise."""
PUBLISHED_DIFFUSION = PUBLISHED["google_robot"].diffusion


@torch.no_grad()
def unet(case: GoldenCase) -> Iterator[Comparison]:
    """Compare one forward pass for each window of the case."""
    network = load_network(case.info["config"], case.state())
    for window in sorted(case.info["windows"]):
        told = _told(network, case, f"in/{window}/", case.info["config"])
        x = case.tensor(f"in/{window}/x").transpose(1, 2)
        ours = _forward(network, x, case.tensor(f"in/{window}/timesteps"), told)
        yield Comparison(f"{window}/y", ours, case.tensor(f"out/{window}/y"), FORWARD)
    if "in/wrapper/x_noisy" in case.tensors:
        yield _wrapper(case, network)


@torch.no_grad()
def weight_transfer(case: GoldenCase) -> Iterator[Comparison]:
    """Compare the causal weights made in each mode, and what the network gives with them."""
    base_config, config = case.info["config_base"], case.info["config_causal"]
    base = load_network(base_config, case.state()).state_dict()
    for mode in ("shift", "masked", "extrapolative"):
        network = _make(config)
        weights = {**causal_weights(base, mode), **causal_output(base, mode, 2)}
        network.load_state_dict(weights, strict=False, assign=True)
        for name, source in _sources(network, config).items():
            golden = f"out/{mode}/{NETWORK}{source.name}"
            if golden in case.tensors:
                ours = network.get_parameter(name).reshape(source.shape)
                yield Comparison(golden[4:], ours, case.tensor(golden), Tolerance(2**-23))
        told = _told(_filled(network), case, "in/", config)
        x, levels = case.tensor("in/x").transpose(1, 2), case.tensor("in/timesteps")
        ours = _forward(network, x, levels, told)
        yield Comparison(f"{mode}/y", ours, case.tensor(f"out/{mode}/y"), FORWARD)


def training_loss(case: GoldenCase) -> Iterator[Comparison]:
    """Compare the loss, every gradient's norm, and one step of the optimiser."""
    network = load_network(case.info["config"], case.state()).requires_grad_(True)
    schedule = NoiseSchedule(PUBLISHED_DIFFUSION)
    levels = case.tensor("in/t")
    clean, noise = (case.tensor(f"in/{name}").transpose(1, 2) for name in ("z", "noise"))
    scaled = schedule.rescaled(clean, levels)
    noisy, target = (
        schedule.add_noise(scaled, noise, levels),
        schedule.velocity(scaled, noise, levels),
    )
    output = network(noisy, levels, _told_as_recorded(network, case, "in/"))
    per_frame = (output - target).square().mean((2, 3, 4))  # (B, T)
    per_frame.mean().backward()
    for name, ours, limits in (
        ("x_start_rescaled", scaled, Tolerance(1e-6)),
        ("x_noisy", noisy, Tolerance(1e-6)),
        ("target", target, Tolerance(1e-6)),
        ("model_output", output, FORWARD),
    ):
        reference = case.tensor(f"out/{name}").transpose(1, 2)
        yield Comparison(name, ours, reference, limits)
    yield Comparison(
        "loss_per_frame", per_frame, case.tensor("out/loss_per_frame"), Tolerance(1e-5)
    )
    yield Comparison("loss", per_frame.mean(), case.tensor("out/loss"), Tolerance(1e-5))
    yield from _gradients(case, network)
    yield from _optimiser_step(case, network)


def load_network(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> UNet:
    """Build the network that the reference's constructor arguments describe, and fill it.

    Raises:
        ValueError: Arguments that this network does not offer, or weights that do not fit.
    """
    network = _make(config)
    named = {name.removeprefix(NETWORK): value for name, value in state.items()}
    sources = _sources(network, config)
    if set(named) != {source.name for source in sources.values()}:
        odd = sorted(set(named) ^ {source.name for source in sources.values()})
        raise ValueError(f"expected the weights of the network, found a difference: {odd[:5]}")
    fill(network, sources, named)
    return network.eval().requires_grad_(False)


def make_context(network: UNet, tokens: Tensor, frames: int) -> tuple[ContextKeys, ...]:
    """Let a network read tokens (B, 77 + M, D), a prompt's and an image's, for T = `frames`."""
    image = tokens_by_frame(tokens[:, TEXT_LENGTH:], frames).flatten(0, 1)
    return network.context_keys(Context(tokens[:, :TEXT_LENGTH], image))


def shifted(actions: Tensor) -> Tensor:
    """Give each frame the action before it: zeros, then all of (B, T, A) but the last."""
    return torch.cat([torch.zeros_like(actions[:, :1]), actions[:, :-1]], dim=1)


def to_unet_config(config: Mapping[str, Any]) -> UNetConfig:
    """Translate the reference's constructor arguments.

    Raises:
        ValueError: A choice that this network does not offer.
    """
    other = {k: config[k] for k, v in BUILT_IN.items() if k in config and config[k] != v}
    if other:
        raise ValueError(f"expected {BUILT_IN}, found {other}: this network has no such choice")
    causal = bool(config["use_causal_attention"])
    embedding = "table" if config.get("action_dim") == 51 else "linear"
    return UNetConfig(
        channels=config["model_channels"],
        channel_multipliers=tuple(config["channel_mult"]),
        blocks=config["num_res_blocks"],
        attention_sizes=tuple(config["attention_resolutions"]),
        head_channels=config["num_head_channels"],
        initial_attention=config["addition_attention"],
        initial_attention_heads=INITIAL_ATTENTION_HEADS,
        context_channels=config["context_dim"],
        action_embedding=embedding if config.get("action_emb") else "none",
        rate_embedding=config["fs_condition"],
        causal=causal,
        output_conv="height_causal" if causal else "plain",
        groups=32,
        dropout=config["dropout"],
        temporal_norm="pooled",
    )


def _make(config: Mapping[str, Any]) -> UNet:
    with torch.device("meta"):
        return UNet(to_unet_config(config), config["out_channels"], config.get("action_dim", 13))


def _sources(network: UNet, config: Mapping[str, Any]) -> dict[str, Any]:
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    return unet_sources(shapes, causal=config["use_causal_attention"])


def _filled(network: UNet) -> UNet:
    """Put zeros where nothing was transferred: the action layers, hidden by their mask."""
    for module in network.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            if value.is_meta:
                setattr(module, name, torch.nn.Parameter(torch.zeros(value.shape)))
    return network.eval().requires_grad_(False)


def _told(network: UNet, case: GoldenCase, where: str, config: Mapping[str, Any]) -> Conditioning:
    """Gather what one window is told; the last channels of `x` are the conditioning frame's."""
    x = case.tensor(f"{where}x").transpose(1, 2)
    batch, frames = x.shape[:2]
    rate = torch.full((batch,), config["default_fs"])
    tokens = case.tensors.get(f"{where}context", case.tensors.get("in/context"))
    if tokens is None:
        raise ValueError(f"expected {where}context or in/context in case {case.name!r}")
    return Conditioning(
        frame=x[:, :, config["out_channels"] :],
        actions=case.tensors.get(f"{where}action"),
        action_mask=case.tensors.get(f"{where}action_mask"),
        rate=case.tensors.get(f"{where}fs", rate),
        context=make_context(network, tokens, frames),
    )


def _told_as_recorded(network: UNet, case: GoldenCase, where: str) -> Conditioning:
    """Gather what a window is told where actions are not shifted and the frame is apart."""
    frame = case.tensor(f"{where}c_concat").transpose(1, 2)
    return Conditioning(
        frame=frame,
        actions=shifted(case.tensor(f"{where}action_raw")),
        action_mask=case.tensor(f"{where}action_mask"),
        rate=case.tensor(f"{where}fs"),
        context=make_context(network, case.tensor("in/context"), frame.shape[1]),
    )


def _forward(network: UNet, x: Tensor, levels: Tensor, told: Conditioning) -> Tensor:
    """Run on x (B, T, 2 C, h, w), of which the first C are noisy: (B, C, T, h, w)."""
    if levels.ndim == 1:
        levels = levels[:, None].expand(x.shape[:2])
    noisy = x[:, :, : x.shape[2] - told.frame.shape[2]]
    return network(noisy, levels, told).transpose(1, 2)


def _wrapper(case: GoldenCase, network: UNet) -> Comparison:
    """Compare a call with the actions as recorded: each frame is told the one before it."""
    noisy = case.tensor("in/wrapper/x_noisy").transpose(1, 2)
    levels = case.tensor("in/wrapper/timesteps")
    ours = network(noisy, levels, _told_as_recorded(network, case, "in/wrapper/")).transpose(1, 2)
    return Comparison("wrapper/y", ours, case.tensor("out/wrapper/y"), FORWARD)


def _gradients(case: GoldenCase, network: UNet) -> Iterator[Comparison]:
    sources = _sources(network, case.info["config"])
    gradients = {
        source.name: parameter.grad.clone().reshape(source.shape)  # clipped in place, later
        for name, source in sources.items()
        if (parameter := network.get_parameter(name)).grad is not None
    }
    for name in sorted(k for k in case.tensors if k.startswith("out/grad/")):
        yield _gradient(name[4:], gradients[name[len("out/grad/") :]], case.tensor(name))
    norms = torch.stack([gradients[n].norm() for n in case.info["grad_norm_parameter_order"]])
    reference = case.tensor("out/grad_norms")
    clear = reference >= NO_GRADIENT
    ratios = norms[clear] / reference[clear]
    yield Comparison("grad_norms", ratios, torch.ones_like(ratios), Tolerance(1e-4))
    yield _gradient("grad_norms of none", norms[~clear], reference[~clear])
    yield Comparison(
        "total_grad_norm", norms.norm(), case.tensor("out/total_grad_norm"), Tolerance(1e-4)
    )


def _gradient(name: str, ours: Tensor, reference: Tensor) -> Comparison:
    if reference.numel() and reference.abs().max() < NO_GRADIENT:
        return Comparison(name, ours, reference, Tolerance(0.0, NO_GRADIENT))
    return Comparison(name, ours, reference, Tolerance(1e-4))


def _optimiser_step(case: GoldenCase, network: UNet) -> Iterator[Comparison]:
    """Take one step of the published optimiser; near a gradient of zero its sign is chance."""
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    torch.optim.AdamW(network.parameters(), lr=1e-5).step()
    for name, source in _sources(network, case.info["config"]).items():
        golden = f"out/adamw_delta/{source.name}"
        if golden in case.tensors:
            parameter = network.get_parameter(name)
            clear = case.tensor(f"out/grad/{source.name}").abs() >= NO_GRADIENT
            delta = (parameter.detach() - before[name]).reshape(source.shape)
            yield Comparison(
                golden[4:], delta[clear], case.tensor(golden)[clear], Tolerance(0.0, 1e-7)
            )
