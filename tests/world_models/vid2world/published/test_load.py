"""Published checkpoints, at a tiny size: every name and shape as published, the weights random."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_gym.configs.model import KLAutoencoderConfig
from v2w_gym.configs.published import PUBLISHED, SIZES, RandomCheckpointConfig, TextConfig
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.published.convert import write_random
from v2w_gym.world_models.vid2world.published.layout import base_of, published_shapes, sources
from v2w_gym.world_models.vid2world.published.load import load_published, read_published


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Write a checkpoint once: `checkpoints(robot, base=..., ending=...)`."""
    folder = tmp_path_factory.mktemp("published")

    def get(robot="google_robot", base=False, ending=".safetensors"):
        path = folder / f"{robot}-{base}{ending}"
        if not path.exists():
            write_random(RandomCheckpointConfig(str(path), robot, "tiny", base, seed=1))
        return path

    return get


def meta(robot, size="full", base=False):
    cfg = SIZES[size].of(PUBLISHED[robot])
    cfg = replace(cfg, unet=base_of(cfg.unet)) if base else cfg
    with torch.device("meta"):
        return Vid2World(cfg)


@pytest.mark.parametrize(
    ("robot", "base", "network"),
    [
        ("google_robot", False, 1_440_910_020),
        ("csgo_player", False, 1_440_921_860),
        ("recon_jackal", False, 1_440_906_820),
        ("google_robot", True, 1_438_854_980),
    ],
)
def test_full_size_parameters_are_as_published(robot, base, network):
    model = meta(robot, base=base)
    parts = [("unet", network), ("autoencoder", 83_653_863)]
    parts += [("context.resampler", 48_787_456)]
    for name, expected in parts:
        part = model.get_submodule(name)
        assert sum(p.numel() for p in part.parameters()) == expected, name


def test_full_size_weights_are_as_many_as_published():
    weights = published_shapes(PUBLISHED["google_robot"], TextConfig())
    assert len(weights) == 2526
    assert sum(torch.Size(shape).numel() for shape in weights.values()) == 2_611_184_045 + 13_400
    prefixes = {"model.diffusion_model.": 1522, "first_stage_model.": 248, "image_proj_model.": 51}
    prefixes |= {"cond_stage_model.": 294, "embedder.": 398}
    for prefix, count in prefixes.items():
        assert sum(name.startswith(prefix) for name in weights) == count, prefix


def test_no_two_weights_of_ours_are_the_same_published_one():
    wanted = list(sources(meta("google_robot")).values())
    assert len({(source.name, source.part) for source in wanted}) == len(wanted)


@pytest.mark.parametrize(
    ("keys", "base"), [("vid2world_rt1.txt", False), ("unet_dynamicrafter.txt", True)]
)
def test_full_size_names_and_shapes_are_exactly_the_published_ones(keys, base):
    if "V2W_PARITY_DIR" not in os.environ:
        pytest.skip("the lists of published names need V2W_PARITY_DIR")
    path = Path(os.environ["V2W_PARITY_DIR"]).parent / "reference" / "keys" / keys
    if not path.is_file():
        pytest.skip(f"there is no list of published names at {path}")
    published = dict(_name_and_shape(line) for line in path.read_text().splitlines())
    cfg = PUBLISHED["google_robot"]
    ours = published_shapes(replace(cfg, unet=base_of(cfg.unet)) if base else cfg, TextConfig())
    if base:
        prefix = "model.diffusion_model."
        ours = {n.removeprefix(prefix): s for n, s in ours.items() if n.startswith(prefix)}
    assert ours == published


def _name_and_shape(line):
    name, shape = line.split(" ", 1)
    return name, tuple(int(size) for size in re.findall(r"\d+", shape))


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("robot", PUBLISHED)
def test_what_a_checkpoint_is_can_be_read_off_it(checkpoints, robot, ending):
    model = load_published(read_published(checkpoints(robot, ending=ending)))
    assert model.cfg == SIZES["tiny"].of(PUBLISHED[robot])


def test_every_weight_arrives(checkpoints):
    stored = load_file(checkpoints())
    model = load_published(read_published(checkpoints()))
    ours = model.state_dict()
    for name, source in sources(model).items():
        published = stored[source.name]
        part = published if source.part is None else published.chunk(3)[source.part]
        assert torch.equal(ours[name].flatten(), part.flatten()), name
    assert ours["context.text"].abs().sum() > 0


def test_the_base_has_no_actions_and_is_not_causal(checkpoints):
    published = read_published(checkpoints(base=True))
    model = load_published(published, "google_robot")
    assert not published.causal and not model.cfg.unet.causal
    assert model.unet.action_embedding is None
    with pytest.raises(ValueError, match=r"expected robot= .* a base checkpoint"):
        load_published(published)


def test_the_wrong_domain_is_refused(checkpoints):
    published = read_published(checkpoints("csgo_player"))
    with pytest.raises(ValueError, match=r"'recon_jackal' \(3 action values\), found one of 'csgo"):
        load_published(published, "recon_jackal")
    with pytest.raises(ValueError, match="robot to be one of .*'csgo_player'"):
        load_published(published, "csgo_playr")


@pytest.fixture
def changed(checkpoints, tmp_path):
    """A checkpoint with some weights changed; None takes one away."""

    def make(**changes):
        weights = load_file(checkpoints())
        for name, value in changes.items():
            if value is None:
                del weights[name]
            else:
                weights[name] = value
        save_file(weights, tmp_path / "changed.safetensors")
        return read_published(tmp_path / "changed.safetensors")

    return make


INPUT = "model.diffusion_model.input_blocks.0.0.bias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({INPUT: None}, rf"found 1 missing \['{INPUT}'\]"),
        ({INPUT: torch.zeros(7)}, rf"expected {INPUT} of shape \(32,\) .* found \(7,\)"),
        ({"extra": torch.zeros(1)}, r"1 unknown \['extra'\]"),
        ({"first_stage_model.encoder.conv_in.weight": None}, "expected weight 'first_stage_model"),
        ({"image_proj_model.latents": None}, "expected weight 'image_proj_model.latents'"),
        (
            {"model.diffusion_model.action_emb_proj.0.weight": torch.zeros(32)},
            "expected the shapes of a Vid2World model in .*changed",
        ),
        (
            {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(33, 8, 3, 3)},
            "the checkpoint is .*changed",
        ),
        (
            {"model.diffusion_model.action_emb_proj.0.weight": torch.zeros(32, 7)},
            r"expected action layers of .* found \('linear', 7\)",
        ),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(changed, changes, message):
    with pytest.raises(ValueError, match=message):
        load_published(changed(**changes))


def test_schedule_tables_need_not_be_there(changed):
    published = changed(scale_arr=None, lvlb_weights=torch.zeros(1000))
    assert load_published(published).cfg.robot == "google_robot"


def test_the_old_file_format_is_named(tmp_path):
    path = tmp_path / "old.ckpt"
    torch.save({"x": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="since PyTorch 1.6.* truncated, older, or something else"):
        read_published(path)


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors"])
def test_truncated_files_are_refused(checkpoints, tmp_path, ending):
    path = tmp_path / f"cut{ending}"
    path.write_bytes(checkpoints(ending=ending).read_bytes()[:-1000])
    with pytest.raises(
        ValueError, match=r"expected (a whole PyTorch checkpoint|complete safetensors)"
    ):
        read_published(path)


class Trap:
    def __reduce__(self):
        return (print, ("code in a checkpoint ran",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {"x": torch.zeros(1)}},
            r"weights named model\.diffusion_model\.+, found 1",
        ),
        ([torch.zeros(1)], "expected a checkpoint with named weights"),
        (
            {"state_dict": {}, "callback": Trap()},
            "found other Python objects, which could run code",
        ),
    ],
)
def test_other_content_is_refused_and_never_run(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=message):
        read_published(tmp_path / "x.ckpt")
    assert "ran" not in capsys.readouterr().out


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no such file"):
        read_published(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"state_dict": weights, "epoch": 3},
        lambda weights: {"module": {f"_forward_module.{k}": v for k, v in weights.items()}},
    ],
)
def test_the_containers_of_the_training_frameworks_are_opened(checkpoints, tmp_path, wrap):
    weights = load_file(checkpoints())
    torch.save(wrap(weights), tmp_path / "x.ckpt")
    assert set(read_published(tmp_path / "x.ckpt").weights) == set(weights)


def test_a_model_of_our_own_has_no_published_names():
    with torch.device("meta"):
        own = Vid2World(replace(PUBLISHED["google_robot"], kl_autoencoder=None))
    with pytest.raises(ValueError, match="expected a model of the published kind"):
        sources(own)
    with pytest.raises(ValueError, match="expected a model of the published kind"):
        published_shapes(
            replace(PUBLISHED["google_robot"], kl_autoencoder=KLAutoencoderConfig(), context=None),
            TextConfig(),
        )
