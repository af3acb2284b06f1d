"""The autoencoder and the conditioning towers, held against the reference implementation."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from v2w_gym.configs.model import ClipConfig, KLAutoencoderConfig, ResamplerConfig
from v2w_gym.evaluation.checks.parity.golden import Comparison, GoldenCase, Tolerance
from v2w_gym.world_models.vid2world.clip import ClipImageTower, ClipTextTower
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder
from v2w_gym.world_models.vid2world.published.weight_names import dead_shapes, tower_source
from v2w_gym.world_models.vid2world.resampler import Resampler


@torch.no_grad()
def vae(case: GoldenCase) -> Iterator[Comparison]:
    """Compare the autoencoder: every stage of encoding, and decoding before the clamp."""
    config = case.info["ddconfig"]
    cfg = KLAutoencoderConfig(
        channels=config["ch"],
        channel_multipliers=tuple(config["ch_mult"]),
        blocks=config["num_res_blocks"],
        latent_channels=config["z_channels"],
    )
    with torch.device("meta"):
        autoencoder = KLAutoencoder(cfg)
    state = {f"first_stage_model.{name}": value for name, value in case.state().items()}
    _fill(autoencoder, "autoencoder.", state, sizes=len(cfg.channel_multipliers))
    frames, noise = case.tensor("in/x"), case.tensor("in/noise")
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
        "decode": network.decode(case.tensor("in/z")).sample,
        "reconstruct": network.decode(posterior.mode()).sample,
    }
    yield from _compare(case, ours, atol=2e-5)


@torch.no_grad()
def resampler(case: GoldenCase) -> Iterator[Comparison]:
    """Compare the network that makes few tokens of an image's CLIP tokens."""
    config = case.info["config"]
    cfg = ResamplerConfig(
        channels=config["dim"],
        layers=config["depth"],
        heads=config["heads"],
        head_channels=config["dim_head"],
        hidden=config["ff_mult"] * config["dim"],
        tokens=config["num_queries"] * config["video_length"],
        out_channels=config["output_dim"],
    )
    with torch.device("meta"):
        network = Resampler(cfg, config["embedding_dim"])
    state = {f"image_proj_model.{name}": value for name, value in case.state().items()}
    _fill(network, "resampler.", state)
    yield from _compare(case, {"y": network(case.tensor("in/x"))}, atol=2e-5)


@torch.no_grad()
def clip_image(case: GoldenCase) -> Iterator[Comparison]:
    """Compare what an image becomes before CLIP, and its tokens given exactly that."""
    config = case.info["config"]
    cfg = ClipConfig(
        width=config["width"],
        layers=config["layers"],
        heads=config["heads"],
        hidden=int(config["mlp_ratio"] * config["width"]),
    )
    with torch.device("meta"):
        tower = ClipImageTower(cfg)
    dead = dead_shapes(cfg, cfg, vocabulary=0, joint=config["output_dim"])
    _fill(tower, "image_tower.", case.state(), dead)
    image = case.tensor("in/image_u8").float() / 127.5 - 1
    pixels = {
        "preprocessed": tower.preprocess(image),
        "small_preprocessed": tower.preprocess(case.tensor("in/image_small")),
    }
    yield from _compare(case, pixels, rtol=0, atol=3e-5)
    given = [case.tensor(f"out/{name}") for name in pixels]
    tokens = {"tokens": tower(given[0]), "tokens_batch2": tower(torch.cat(given))}
    yield from _compare(case, tokens, atol=3e-5)


@torch.no_grad()
def clip_text(case: GoldenCase) -> Iterator[Comparison]:
    """Compare the embedding of a prompt."""
    config = case.info["config"]
    cfg = ClipConfig(
        width=config["width"],
        layers=config["layers"] - 1,  # the last block is not read
        heads=config["heads"],
        hidden=4 * config["width"],
    )
    with torch.device("meta"):
        tower = ClipTextTower(cfg, config["vocab_size"])
    dead = dead_shapes(cfg, cfg, config["vocab_size"], config["output_dim"])
    _fill(tower, "text_tower.", case.state(), dead)
    yield from _compare(case, {"embedding": tower(case.tensor("in/tokens"))}, atol=3e-5)


def _fill(
    module: nn.Module,
    prefix: str,
    state: Mapping[str, Tensor],
    dead: Mapping[str, tuple[int, ...]] | None = None,
    sizes: int = 0,
) -> None:
    """Give `module` the published weights; each must be read or be known as dead."""
    ours = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    sources = {name: tower_source(prefix + name, ours[name], sizes) for name in ours}
    expected = {(source.name, source.shape) for source in sources.values()}
    found = {(name, tuple(weight.shape)) for name, weight in state.items()}
    wrong = expected ^ (found - set((dead or {}).items()))
    if wrong:
        raise ValueError(
            f"expected the weights of {prefix}*, found a difference in {sorted(wrong)}"
        )
    weights = {
        name: source.take(state[source.name], ours[name]) for name, source in sources.items()
    }
    module.load_state_dict(weights, assign=True)
    module.eval()


def _compare(
    case: GoldenCase, ours: Mapping[str, Tensor], *, atol: float, rtol: float = 1e-5
) -> Iterator[Comparison]:
    for name, tensor in ours.items():
        yield Comparison(name, tensor, case.tensor(f"out/{name}"), Tolerance(rtol, atol))
