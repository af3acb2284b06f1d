import ast
import os
from math import prod
from pathlib import Path

import pytest
import torch

from v2w_gym.configs.model import ClipConfig, ContextConfig, KLAutoencoderConfig
from v2w_gym.world_models.vid2world.clip_towers import ClipImageTower, ClipTextTower, Resampler
from v2w_gym.world_models.vid2world.kl_autoencoder import KLAutoencoder
from v2w_gym.world_models.vid2world.published.weight_names import (
    DEAD,
    Source,
    dead_shapes,
    tower_source,
)

CONTEXT = ContextConfig()
TEXT = ClipConfig(width=1024, layers=23, heads=16, hidden=4096)  # of 24 blocks
VOCABULARY, JOINT = 49408, 1024


def reference(name: str) -> Path:
    if not os.environ.get("V2W_PARITY_DIR"):
        pytest.skip("V2W_PARITY_DIR names no folder of reference test vectors")
    return Path(os.environ["V2W_PARITY_DIR"]) / name


@pytest.fixture(scope="module")
def ours() -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        modules = {
            "autoencoder.": KLAutoencoder(KLAutoencoderConfig()),
            "image_tower.": ClipImageTower(CONTEXT.clip),
            "resampler.": Resampler(CONTEXT.resampler, CONTEXT.clip.width),
            "text_tower.": ClipTextTower(TEXT, VOCABULARY),
        }
    return {
        prefix + name: tuple(weight.shape)
        for prefix, module in modules.items()
        for name, weight in module.state_dict().items()
    }


@pytest.fixture(scope="module")
def published(ours) -> dict[str, tuple[int, ...]]:
    sources = [tower_source(name, shape, 4) for name, shape in ours.items()]
    dead = dead_shapes(CONTEXT.clip, TEXT, VOCABULARY, JOINT)
    assert not dead.keys() & {source.name for source in sources}
    return {source.name: source.shape for source in sources} | dead


@pytest.mark.parametrize(
    ("prefix", "keys", "weights"),
    [
        ("first_stage_model.", 248, 83_653_863),
        ("first_stage_model.encoder.", 106, 34_163_592),
        ("first_stage_model.decoder.", 138, 49_490_179),
        ("cond_stage_model.model.", 294, 354_032_641),
        ("embedder.model.", 398, 683_800_065),
        ("embedder.model.visual.", 392, 632_076_800),
        ("image_proj_model.", 51, 48_787_456),
    ],
)
def test_the_published_towers_have_the_published_sizes(published, prefix, keys, weights):
    shapes = [shape for name, shape in published.items() if name.startswith(prefix)]
    assert (len(shapes), sum(map(prod, shapes))) == (keys, weights)


def test_sources_and_dead_weights_are_all_there_is(published):
    prefixes = ("first_stage_model.", "cond_stage_model.", "embedder.", "image_proj_model.")
    lines = reference("../reference/keys/vid2world_rt1.txt").read_text().splitlines()
    pairs = [line.split(" ", 1) for line in lines if line.startswith(prefixes)]
    assert len(pairs) == 991
    assert published == {name: ast.literal_eval(shape) for name, shape in pairs}


def test_every_published_number_is_read_once(ours, published):
    read = [tower_source(name, shape, 4) for name, shape in ours.items()]
    assert len(set(read)) == len(read)
    dead = sum(map(prod, dead_shapes(CONTEXT.clip, TEXT, VOCABULARY, JOINT).values()))
    assert sum(map(prod, ours.values())) + dead == sum(map(prod, published.values()))


@pytest.mark.parametrize(
    ("name", "shape", "source"),
    [
        (
            "autoencoder.vae.decoder.up_blocks.0.resnets.2.conv_shortcut.bias",
            (64,),
            Source("first_stage_model.decoder.up.2.block.2.nin_shortcut.bias", (64,)),
        ),
        (
            "autoencoder.vae.encoder.mid_block.attentions.0.to_q.weight",
            (64, 64),
            Source("first_stage_model.encoder.mid.attn_1.q.weight", (64, 64, 1, 1)),
        ),
        (
            "image_tower.encoder.layers.11.self_attn.v_proj.weight",
            (8, 8),
            Source(
                "embedder.model.visual.transformer.resblocks.11.attn.in_proj_weight", (24, 8), 2
            ),
        ),
        ("text_tower.norm.bias", (8,), Source("cond_stage_model.model.ln_final.bias", (8,))),
        (
            "resampler.layers.3.feed_forward.1.weight",
            (32, 8),
            Source("image_proj_model.layers.3.1.1.weight", (32, 8)),
        ),
    ],
)
def test_names_by_hand(name, shape, source):
    assert tower_source(name, shape, sizes=3) == source


def test_the_last_text_block_is_dead():
    dead = dead_shapes(CONTEXT.clip, ClipConfig(8, layers=2, heads=1, hidden=32), 50, joint=4)
    block = "cond_stage_model.model.transformer.resblocks.2."
    assert dead[f"{block}mlp.c_proj.weight"] == (8, 32)
    assert dead["embedder.model.text_projection"] == (8, 4)
    assert len(dead) == sum(map(len, DEAD.values()))


def test_a_foreign_name_is_refused():
    with pytest.raises(ValueError, match=r"expected a weight that begins with .*found unet\.conv"):
        tower_source("unet.conv_in.weight", (4, 4, 3, 3), 4)


def test_a_part_is_a_third_of_the_rows():
    fused = torch.arange(12.0).view(6, 2)
    parts = [Source("", (6, 2), part).take(fused, (2, 2)) for part in range(3)]
    assert torch.equal(torch.cat(parts), fused)
    assert parts[1].tolist() == [[4, 5], [6, 7]]
