from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from v2w_gym.configs.published import PUBLISHED, SIZES, ConvertConfig, RandomCheckpointConfig
from v2w_gym.configs.sampler import PRESETS
from v2w_gym.world_models.files import sha256_of
from v2w_gym.world_models.state import FrameNoise
from v2w_gym.world_models.vid2world.model import load_vid2world
from v2w_gym.world_models.vid2world.published.convert import convert, write_random
from v2w_gym.world_models.vid2world.published.load import load_published, read_published


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "rt1.ckpt"
    return write_random(RandomCheckpointConfig(str(path)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "base.ckpt"
    return write_random(RandomCheckpointConfig(str(path), base=True))


def first_latent(model):
    """Start from a frame and denoise the next in one step."""
    model = model.with_sampler(replace(model.cfg.sampler, steps=1))
    frames = np.random.default_rng(0).integers(0, 256, (1, 1, 256, 320, 3), np.uint8)
    noise = FrameNoise((0,), (0,), (1,))
    state = model.start(frames, np.zeros((1, 0, 13), np.float32), noise.earlier(1))
    action = model.robot.make_action(world_vector=0.1)[None]
    return model.step(state, action, noise).latents[:, -1]


def test_a_converted_checkpoint_is_the_published_one(published, tmp_path):
    output = convert(ConvertConfig("", str(tmp_path / "rt1.safetensors")), published)
    converted, original = load_vid2world(output), load_published(read_published(published))
    assert converted.cfg == replace(original.cfg, sampler=PRESETS["clean"])
    assert torch.equal(first_latent(converted), first_latent(original))


def test_the_card_says_where_the_weights_come_from(published, tmp_path):
    cfg = ConvertConfig("", str(tmp_path / "rt1.safetensors"), preset="reference")
    card = load_vid2world(convert(cfg, published)).card
    assert card["provenance"]["source"] == "rt1.ckpt"
    assert card["provenance"]["source_sha256"] == sha256_of(published)
    assert card["robot"] == card["config"]["robot"] == "google_robot"
    assert card["config"]["sampler"]["reencode"] is True


def test_dead_weights_are_left_behind(published, tmp_path):
    output = convert(ConvertConfig("", str(tmp_path / "rt1.safetensors")), published)
    stored = sum(p.numel() for p in load_vid2world(output).state_dict().values())
    assert stored < sum(w.numel() for w in read_published(published).weights.values())
    assert not any("text_tower" in name for name in load_vid2world(output).state_dict())


def test_half_the_size_runs_in_single_precision_on_a_cpu_and_could_run_in_half(published, tmp_path):
    cfg = ConvertConfig("", str(tmp_path / "rt1.safetensors"), precision="bfloat16")
    stored = load_file(convert(cfg, published))
    assert stored["unet.conv_in.weight"].dtype == torch.bfloat16
    assert stored["autoencoder.vae.encoder.conv_in.weight"].dtype == torch.float32
    model = load_vid2world(Path(cfg.output))
    assert model.unet.conv_in.weight.dtype == torch.float32
    assert torch.equal(model.unet.conv_in.weight, stored["unet.conv_in.weight"].float())
    exact = first_latent(load_published(read_published(published)))
    model.unet.bfloat16()
    model.context.bfloat16()
    for found in (first_latent(load_vid2world(Path(cfg.output))), first_latent(model)):
        assert found.dtype == torch.float32
        assert (found - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize("mode", ["shift", "masked", "extrapolative"])
def test_a_base_becomes_causal_and_keeps_what_it_knows(base, tmp_path, mode):
    cfg = ConvertConfig("", str(tmp_path / "x.safetensors"), robot="csgo_player", transfer=mode)
    model = load_vid2world(convert(cfg, base))
    before = load_published(read_published(base), "csgo_player").unet.state_dict()
    after = model.unet.state_dict()
    same = "down.0.res.conv1.weight"
    assert torch.equal(after[same], before[same])
    kernel = "down.0.res.temporal.convs.0.conv.weight"
    old, new = before[kernel].unbind(2), after[kernel].unbind(2)
    zero = torch.zeros_like(old[0])
    expected = {
        "shift": old,
        "masked": (zero, old[0], old[1]),
        "extrapolative": (zero, old[0] - old[2], old[1] + 2 * old[2]),
    }
    for ours, wanted in zip(new, expected[mode], strict=True):
        torch.testing.assert_close(ours, wanted)
    assert torch.equal(after["conv_out.weight"], before["conv_out.weight"])
    assert after["action_embedding.table.weight"].shape == (51, 32)
    assert model.card["provenance"]["transfer"] == {"mode": mode, "order": 2, "seed": 0}


def test_the_published_loaders_mistake_is_made_on_request_only(base, tmp_path):
    cfg = ConvertConfig(
        "",
        str(tmp_path / "x.safetensors"),
        robot="google_robot",
        transfer="extrapolative",
        height_causal=True,
    )
    model = load_vid2world(convert(cfg, base))
    old = load_published(read_published(base), "google_robot").unet.conv_out.weight
    assert model.cfg.unet.output_conv == "height_causal"
    expected = torch.stack([0 * old[:, :, 0], old[:, :, 0] - old[:, :, 2], old[:, :, 1]], dim=2)
    expected[:, :, 2] += 2 * old[:, :, 2]
    torch.testing.assert_close(model.unet.conv_out.weight, expected)


def test_new_action_layers_depend_on_the_seed_alone(base, tmp_path):
    def layers(seed):
        cfg = ConvertConfig(
            "",
            str(tmp_path / "x.safetensors"),
            robot="google_robot",
            transfer="masked",
            seed=seed,
        )
        return load_vid2world(convert(cfg, base)).unet.action_embedding.layers[0].weight.clone()

    assert torch.equal(layers(1), layers(1)) and not torch.equal(layers(1), layers(2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "float16"}, "precision to be one of"),
        ({"preset": "clear"}, "did you mean 'clean'"),
        ({"robot": "recon_jackal"}, r"'recon_jackal' \(3 action values\)"),
        ({"transfer": "masked"}, "for a base checkpoint, and no transfer"),
    ],
)
def test_wrong_settings_are_refused(published, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        convert(ConvertConfig("", str(tmp_path / "x.safetensors"), **settings), published)
    assert not list(tmp_path.iterdir())


def test_the_checkpoint_itself_is_never_written_over(tmp_path):
    path = write_random(RandomCheckpointConfig(str(tmp_path / "x.safetensors")))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another file than the checkpoint"):
        convert(ConvertConfig("", str(path)), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["x.bin", "folder.safetensors", "taken.safetensors"])
def test_an_output_that_could_not_be_used_or_would_cost_a_file_is_refused(
    published, tmp_path, name
):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "taken.json").write_text("{}")
    with pytest.raises(ValueError, match="expected (output|.*free for the card)"):
        convert(ConvertConfig("", str(tmp_path / name)), published)
    assert (tmp_path / "taken.json").read_text() == "{}"


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    output = str(tmp_path / "file" / "x.safetensors")
    with pytest.raises(OSError, match="expected a writable folder"):
        convert(ConvertConfig("", output), tmp_path / "not read.ckpt")
    with pytest.raises(OSError, match="expected a writable folder"):
        write_random(RandomCheckpointConfig(output))


def test_what_is_converted_is_not_converted_again(published, tmp_path):
    once = convert(ConvertConfig("", str(tmp_path / "once.safetensors")), published)
    with pytest.raises(ValueError, match="found a converted one"):
        convert(ConvertConfig("", str(tmp_path / "twice.safetensors")), once)


def test_a_base_needs_a_transfer(base, tmp_path):
    cfg = ConvertConfig("", str(tmp_path / "x.safetensors"), robot="google_robot")
    with pytest.raises(ValueError, match="is not causal"):
        convert(cfg, base)


def test_a_failed_write_leaves_what_was_there(published, tmp_path, monkeypatch):
    output = tmp_path / "rt1.safetensors"
    convert(ConvertConfig("", str(output)), published)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("v2w_gym.world_models.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        convert(ConvertConfig("", str(output)), published)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "x.bin"}, "the ending of output"),
        ({"size": "small"}, "size to be one of"),
        ({"robot": "spot"}, "robot to be one of"),
    ],
)
def test_impossible_random_checkpoints_are_refused(tmp_path, settings, message):
    given = {"output": "x.ckpt", **settings}
    given["output"] = str(tmp_path / given["output"])
    with pytest.raises(ValueError, match=message):
        write_random(RandomCheckpointConfig(**given))


def test_random_checkpoints_depend_on_the_seed_alone(tmp_path):
    def written(name, seed):
        path = Path(write_random(RandomCheckpointConfig(str(tmp_path / name), seed=seed)))
        return sha256_of(path)

    same = written("a.safetensors", 3), written("b.safetensors", 3)
    assert same[0] == same[1] != written("c.safetensors", 4)


def test_no_layer_of_a_random_checkpoint_is_zero(published):
    weights = read_published(published).weights
    tables = {"posterior_mean_coef2"}
    zero = [n for n, w in weights.items() if n.startswith(("model", "image")) and not w.any()]
    assert not zero and tables <= set(weights)
    assert SIZES["tiny"].of(PUBLISHED["google_robot"]).unet.channels == 32
