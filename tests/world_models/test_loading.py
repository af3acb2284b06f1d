import json
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from v2w_gym.configs.published import ConvertConfig, RandomCheckpointConfig
from v2w_gym.configs.sampler import PRESETS
from v2w_gym.world_models.checkpoint import save_checkpoint
from v2w_gym.world_models.loading import HUB_ID, KINDS, find_checkpoint, load_world_model
from v2w_gym.world_models.vid2world.published.convert import convert, write_random


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "rt1.ckpt"
    return write_random(RandomCheckpointConfig(str(path)))


@pytest.fixture(scope="module")
def converted(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "rt1.safetensors"
    return convert(ConvertConfig("", str(path)), published)


def test_the_bundled_model_needs_nothing():
    model = load_world_model()
    assert model.robot.name == "standin_sawyer"
    assert load_world_model().unet is model.unet  # loaded once


def test_published_and_converted_files_both_load(published, converted):
    models = [load_world_model(str(path)) for path in (published, converted)]
    assert [model.robot.name for model in models] == ["google_robot"] * 2
    assert models[0].card["provenance"]["source"] == "rt1.ckpt"
    assert models[1].card["provenance"]["source_weights"] > 0


def test_two_published_files_of_one_name_and_size_are_distinguished(published, tmp_path):
    other = write_random(RandomCheckpointConfig(str(tmp_path / "rt1.ckpt"), seed=1))
    same = shutil.copy(published, tmp_path / "copy.ckpt")
    assert other.stat().st_size == published.stat().st_size
    digests = [
        load_world_model(str(path)).card["provenance"]["norms_and_biases"]
        for path in (published, other, same)
    ]
    assert digests[0] == digests[2] != digests[1]


def test_presets_and_settings_share_the_weights(published):
    plain = load_world_model(str(published))
    assert plain.cfg.sampler == PRESETS["clean"]
    chosen = load_world_model(str(published), preset="reference", sampler={"steps": 5})
    assert chosen.cfg.sampler == replace(PRESETS["reference"], steps=5)
    assert chosen.unet is plain.unet


def test_presets_change_the_checkpoints_own_sampler(published):
    own = load_world_model(str(published)).cfg.sampler
    chosen = load_world_model(str(published), preset="standard", sampler={"steps": 9})
    assert chosen.cfg.sampler == replace(own, solver="unipc", steps=9, eta=0.0)
    own = load_world_model().cfg.sampler
    chosen = load_world_model(preset="standard")
    assert chosen.cfg.sampler == replace(own, solver="unipc", steps=12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "referense"}, "did you mean 'reference'"),
        ({"preset": "standart"}, r"'draft', 'standard', 'faithful', 'clean', 'reference'\]"),
        ({"preset": "standard", "sampler": {"eta": 1.0}}, "expected eta=0 with solver=unipc"),
        ({"sampler": {"step": 5}}, "unknown setting sampler.step; did you mean 'steps'"),
        ({"sampler": {"steps": "many"}}, "steps"),
        ({"sampler": {"steps": 0}}, "expected sampler.steps >= 1, found 0"),
        ({"sampler": {"history_noise_level": 999}}, "expected history_noise_level <= 998"),
        (
            {"sampler": {"guidance_scale": float("nan")}},
            "cannot set sampler.guidance_scale: expected a finite number",
        ),
        ({"sampler": {"eta": -1.0}}, "expected sampler.eta >= 0, found -1"),
        ({"sampler": {"guidance_rescale": 2.0}}, "expected sampler.guidance_rescale <= 1, found 2"),
        (
            {"sampler": {"clip_keep": float("nan")}},
            "cannot set sampler.clip_keep: expected a finite number",
        ),
        ({"preset": "reference"}, "'reference' is for published checkpoints"),
        ({"device": "cudaa"}, "expected a device that PyTorch can use here.*found 'cudaa'"),
        ({"dtype": "float16"}, "cannot set dtype: expected one of .*'float32', 'bfloat16'"),
        ({"window": 4, "context_frames": 0}, "expected context_frames >= 1, found 0"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        load_world_model(**settings)


def test_an_argument_of_an_unknown_name_is_refused():
    with pytest.raises(TypeError, match="'chekpoint'; did you mean 'checkpoint'"):
        load_world_model(chekpoint="x")


def test_every_kind_has_a_loader():
    for place in KINDS.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))


def test_an_unknown_kind_names_the_nearest(tmp_path):
    save_checkpoint(tmp_path / "x.safetensors", {"w": torch.zeros(1)}, {"kind": "vid2word"})
    with pytest.raises(ValueError, match=r"kind of world model at .*did you mean 'vid2world'"):
        load_world_model(tmp_path / "x.safetensors")


@pytest.mark.filterwarnings("ignore:.*emulates them")
def test_dtype_is_what_the_network_computes_in():
    plain, half = load_world_model(), load_world_model(dtype="bfloat16")
    assert {w.dtype for w in half.unet.parameters()} == {torch.bfloat16}
    assert {w.dtype for w in half.autoencoder.parameters()} == {torch.float32}
    assert half.card == {**plain.card, "dtype": "bfloat16"}
    assert half.fingerprint != plain.fingerprint
    same = load_world_model(dtype="float32")  # as it is anyway
    assert same.fingerprint == plain.fingerprint
    assert load_world_model(dtype="bfloat16", sampler={"steps": 3}).card["dtype"] == "bfloat16"


def test_window_and_context_can_be_chosen(published):
    plain = load_world_model(str(published))
    chosen = load_world_model(str(published), window=10, context_frames=9)
    assert (plain.window, plain.context_frames) == (16, 1)
    assert (chosen.window, chosen.context_frames) == (10, 9)
    assert (chosen.cfg.window, chosen.cfg.context_frames) == (10, 9)
    assert chosen.unet is plain.unet


@pytest.mark.parametrize("shape", [(4, 4), (4, 5), (1, 1)])
def test_a_window_needs_room_for_a_new_frame(shape):
    with pytest.raises(ValueError, match="expected 1 <= context_frames < window"):
        load_world_model(window=shape[0], context_frames=shape[1])


def test_a_path_will_do(published):
    assert load_world_model(published).robot.name == "google_robot"


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"kind": 1}'])
def test_another_file_beside_the_weights_is_no_card(converted, tmp_path, text):
    path = write_random(RandomCheckpointConfig(str(tmp_path / "x.safetensors")))
    path.with_suffix(".json").write_text(text)
    assert load_world_model(str(path)).card["provenance"]["source"] == "x.safetensors"
    shutil.copy(converted, path)
    with pytest.raises(ValueError, match="weights named model"):
        load_world_model(str(path))


@pytest.fixture
def parts(published, tmp_path):
    """The published checkpoint in two parts with an index."""
    weights = torch.load(published, weights_only=True)["state_dict"]
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(weights)}
    for part in set(places.values()):
        save_file({n: weights[n].clone() for n in places if places[n] == part}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    return index


def test_a_checkpoint_in_parts_is_its_index(published, parts):
    assert find_checkpoint(str(parts.parent)) == parts
    whole, model = load_world_model(str(published)), load_world_model(str(parts))
    assert model.unet.conv_in.weight.equal(whole.unet.conv_in.weight)
    parts.unlink()
    with pytest.raises(FileNotFoundError, match="found only parts of one, such as model-00001"):
        find_checkpoint(str(parts.parent))


def test_averaged_weights_beside_plain_ones_are_logged_and_can_be_chosen(
    published, tmp_path, caplog
):
    weights = torch.load(published, weights_only=True)["state_dict"]
    name = "model.diffusion_model.input_blocks.0.0.bias"
    average = {"model_ema." + name.removeprefix("model.").replace(".", ""): weights[name] + 1}
    path = tmp_path / "both.ckpt"
    torch.save({"state_dict": {**weights, **average}}, path)
    plain = load_world_model(str(path))
    assert plain.unet.conv_in.bias.equal(weights[name])
    assert "others in state_dict.model_ema" in caplog.text
    output = convert(ConvertConfig("", str(tmp_path / "x.safetensors"), averaged=True), path)
    averaged = load_world_model(str(output))
    assert averaged.unet.conv_in.bias.equal(weights[name] + 1)
    assert averaged.card["provenance"]["weights"].startswith("averaged (EMA), in state_dict")
    with pytest.raises(ValueError, match=r"one set of averaged \(EMA\) weights, found 0"):
        convert(ConvertConfig("", str(tmp_path / "y.safetensors"), averaged=True), published)


def test_a_published_file_may_lie_beside_what_was_made_of_it(published, tmp_path):
    path = Path(shutil.copy(published, tmp_path / "rt1.ckpt"))
    for _ in range(2):  # the second time the card lies there already
        convert(ConvertConfig("", str(tmp_path / "rt1.safetensors")), path)
    assert load_world_model(str(path)).card["provenance"]["source"] == "rt1.ckpt"


def test_a_path_is_not_resolved_to_what_it_links_to(published, converted, tmp_path):
    """A hub's cache links to files without an ending."""
    for file in (published, converted, converted.with_suffix(".json")):
        blob = tmp_path / f"blob of {file.suffix.removeprefix('.')}"
        shutil.copy(file, blob)
        (tmp_path / f"model{file.suffix}").symlink_to(blob)
    for path in (tmp_path / "model.ckpt", tmp_path / "model.safetensors"):
        assert find_checkpoint(str(path)) == path
        assert load_world_model(str(path)).robot.name == "google_robot"


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("me/run:epoch=10-step=100000.ckpt", "epoch=10-step=100000.ckpt"),
        ("me/run@v1:logs/lr=1e-5, (best) [2]+é.ckpt", "logs/lr=1e-5, (best) [2]+é.ckpt"),
        ("me/run@refs/pr/1:a..b.ckpt", "a..b.ckpt"),
        ("me/run", None),
        ("me/run:/etc/passwd", "no id"),
        ("me/run:../x.ckpt", "no id"),
        ("me/run:a/../../x.ckpt", "no id"),
        ("me/run:a\nb.ckpt", "no id"),
    ],
)
def test_a_file_on_the_hub_may_have_any_legal_name(text, file):
    found = HUB_ID.fullmatch(text)
    assert (found["file"] if found else "no id") == file


def test_a_folder_with_one_checkpoint_is_that_checkpoint(published, converted, tmp_path):
    assert find_checkpoint(str(published.parent)) == published
    assert find_checkpoint(str(converted.parent)) == converted
    with pytest.raises(FileNotFoundError, match="found none"):
        find_checkpoint(str(tmp_path))
    for name in ("a.ckpt", "b.ckpt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"found \['a.ckpt', 'b.ckpt'\]; name the file"):
        find_checkpoint(str(tmp_path))


@pytest.fixture
def hub(converted, tmp_path, monkeypatch):
    """A hub that cannot be reached, and a cache that holds lab/world at two revisions."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--lab--world"
    for name, commit in (("main", "a" * 40), ("v2", "b" * 40)):
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(commit)
        for path in (converted, converted.with_suffix(".json")):
            shutil.copy(path, snapshot / path.name)
    return repository / "snapshots"


@pytest.mark.parametrize(
    ("checkpoint", "commit"), [("lab/world", "a"), ("lab/world@v2", "b"), ("lab/world@main", "a")]
)
def test_a_hub_id_is_found_in_the_cache(hub, checkpoint, commit):
    path = find_checkpoint(checkpoint)
    assert path == hub / (commit * 40) / "rt1.safetensors"
    assert load_world_model(checkpoint).robot.name == "google_robot"


def test_a_file_on_the_hub_can_be_named(hub):
    path = find_checkpoint("lab/world@v2:rt1.safetensors")
    assert path == hub / ("b" * 40) / "rt1.safetensors"
    with pytest.raises(FileNotFoundError, match=r"expected 'rt2\.safetensors' in 'lab/world'"):
        find_checkpoint("lab/world:rt2.safetensors")


@pytest.mark.parametrize("checkpoint", ["lab/other", "lab/world@v3"])
def test_what_the_hub_does_not_have_is_named(hub, checkpoint):
    with pytest.raises(FileNotFoundError, match="on the hub or in its cache"):
        find_checkpoint(checkpoint)


@pytest.mark.parametrize("checkpoint", ["rt2.ckpt", "nowhere/rt1.ckpt", "/tmp/no/such/file"])
def test_a_missing_file_is_named(checkpoint):
    with pytest.raises(FileNotFoundError, match="a hub id looks like owner/name"):
        find_checkpoint(checkpoint)


def test_a_near_name_is_suggested(published):
    with pytest.raises(FileNotFoundError, match=r"did you mean 'rt1\.ckpt'"):
        find_checkpoint(str(published.with_name("rt.ckpt")))


def test_the_base_is_not_a_world_model(tmp_path):
    path = write_random(RandomCheckpointConfig(str(tmp_path / "base.ckpt"), base=True))
    with pytest.raises(ValueError, match="make it causal: v2w convert"):
        load_world_model(str(path))
