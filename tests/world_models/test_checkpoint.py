"""Our checkpoints, small and hand-made: weights and card."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from v2w_gym.configs.model import UNetConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.world_models.checkpoint import (
    card_without_checkpoint,
    check_finite,
    check_free,
    check_shapes,
    config_on_card,
    fingerprint_of,
    is_finite,
    load_checkpoint,
    make_network,
    read_card,
    save_checkpoint,
)
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.files import sha256_of
from v2w_gym.world_models.loading import BUNDLED, load_world_model

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}
BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, WEIGHTS, {"kind": "linear", "note": 1})
    return path


def rewritten(path, weights):
    """Write other weights under a card that fits them."""
    save_file(weights, path)
    card = {**json.loads(path.with_suffix(".json").read_text()), "sha256": sha256_of(path)}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def test_what_is_saved_is_loaded(path):
    weights, card = load_checkpoint(path)
    assert all(weights[name].equal(value) for name, value in WEIGHTS.items())
    assert card == {"kind": "linear", "note": 1, "sha256": sha256_of(path)}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("place", [0, 500, 1000])
def test_one_value_that_is_not_finite_is_found(value, dtype, place):
    tensor = torch.full((1001,), 60_000.0).to(dtype)
    assert is_finite(tensor)
    tensor[place] = value
    assert not is_finite(tensor)


def test_any_kind_of_number_may_be_finite():
    assert is_finite(torch.zeros(0)) and is_finite(torch.ones(2, dtype=torch.int64))
    eight_bit = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    assert is_finite(eight_bit[:1]) and not is_finite(eight_bit)


def test_weights_that_are_not_finite_are_refused_by_name(path):
    bias = torch.tensor([0.0, float("nan")])
    with pytest.raises(ValueError, match=r"found 1 of 2 values NaN or infinite in 'bias'"):
        load_checkpoint(rewritten(path, {**WEIGHTS, "bias": bias}))
    assert load_checkpoint(path, finite=False)[0]["bias"].isnan().any()


@pytest.mark.parametrize(
    "card", ["{", "[]", "{}", "[" * 100_000, '{"kind": "a"}', '{"kind": "a", "sha256": 1}']
)
def test_another_file_is_no_card(path, card):
    path.with_suffix(".json").write_text(card)
    assert read_card(path) is None
    with pytest.raises(ValueError, match="expected a card with a kind and a sha256 in .*json"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="free for the card"):
        check_free(path)


def test_a_card_belongs_to_safetensors_only(path):
    """A published model.ckpt and the model.safetensors made of it lie beside one model.json."""
    assert read_card(path) is not None
    assert read_card(path.with_suffix(".ckpt")) is None


@pytest.fixture
def cached(path, tmp_path):
    """The same checkpoint in a hub's cache: links to blobs without an ending."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    for folder in (blobs, snapshot):
        folder.mkdir(parents=True)
    for file in (path, path.with_suffix(".json")):
        blob = blobs / sha256_of(file)
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot / path.name


def test_links_of_a_hubs_cache_are_followed_by_their_names(cached):
    assert load_checkpoint(cached)[1]["kind"] == "linear"


def test_a_damaged_blob_is_refused_and_the_line_says_what_to_do(cached):
    blob = cached.resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged; delete {blob} and download it again"):
        load_checkpoint(cached)


def test_a_link_finds_the_card_beside_what_it_links_to(path, tmp_path):
    link = tmp_path / "elsewhere" / "other.safetensors"
    link.parent.mkdir()
    link.symlink_to(path)
    assert load_checkpoint(link)[1]["note"] == 1
    link.with_suffix(".json").write_text("{}")  # of something else
    assert read_card(link) == read_card(path)
    with pytest.raises(ValueError, match="free for the card"):
        check_free(link)


def test_a_pointer_of_git_lfs_is_named(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="found a git-LFS pointer"):
        load_checkpoint(path)


@pytest.mark.parametrize("config", [None, [], 1, "x", {"channels": "many"}, {"chanels": 1}])
def test_settings_that_mean_nothing_are_refused(path, config):
    with pytest.raises(ValueError, match=r"model\.json"):
        config_on_card(path, {"config": config}, "config", UNetConfig)
    with pytest.raises(ValueError, match="expected plain settings under .config.*found None"):
        config_on_card(path, {}, "config", UNetConfig)


def test_settings_nested_too_deep_are_refused(path):
    nested = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ValueError):
        config_on_card(path, {"config": {"channels": nested}}, "config", UNetConfig)


def test_settings_are_those_on_the_card(path):
    cfg = config_on_card(path, {"config": {"channels": 32}}, "config", UNetConfig)
    assert cfg == UNetConfig(channels=32)


def test_a_network_gets_the_weights_of_its_checkpoint(path):
    weights, _ = load_checkpoint(path)
    network = make_network(path, lambda: nn.Linear(3, 2), weights)
    assert network.weight.equal(WEIGHTS["weight"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((4, 2), r"expected weight of shape \(2, 4\) there, found \(2, 3\) \(1 weights"),
        ((10**7, 10**7), r"expected weight of shape \(10000000, 10000000\)"),  # takes no memory
    ],
)
def test_a_network_of_other_sizes_is_refused(path, sizes, message):
    weights, _ = load_checkpoint(path)
    with pytest.raises(ValueError, match=message):
        make_network(path, lambda: nn.Linear(*sizes), weights)


def test_missing_and_surplus_weights_are_named():
    with pytest.raises(ValueError, match=r"1 missing \['b'\] and 1 unknown \['c'\]"):
        check_shapes("all", {"a": (1,), "c": (2,)}, {"a": (1,), "b": (2,)})
    check_shapes("all", {"a": (1,)}, {"a": (1,)})


def test_whole_numbers_are_no_weights(path):
    weights = {**WEIGHTS, "weight": WEIGHTS["weight"].long()}
    with pytest.raises(ValueError, match=r"1 missing \['weight'\]"):
        make_network(path, lambda: nn.Linear(3, 2), weights)
    batch_norm = nn.BatchNorm1d(2)  # counts its batches
    assert make_network(path, lambda: nn.BatchNorm1d(2), batch_norm.state_dict())


def test_the_bundled_checkpoints_are_finite():
    check_finite(BUNDLED, load_file(BUNDLED))


def test_a_card_without_a_checkpoint_tells_weights_and_settings_apart():
    def card(value=1.0, settings="", dtype=torch.float32):
        weights = {"w": torch.tensor([value], dtype=dtype), "count": torch.tensor(3)}
        return card_without_checkpoint("mine", "standin_sawyer", 4, settings, weights)

    cards = [card(), card(2.0), card(settings="other"), card(dtype=torch.bfloat16)]
    assert card() == cards[0] and len({fingerprint_of(each) for each in cards[:3]}) == 3
    assert fingerprint_of(cards[3])  # NumPy knows no bfloat16


def test_the_fingerprints_that_rows_hold_stay_what_they_are():
    assert CopyLast(STANDIN_SAWYER).fingerprint.startswith("52cd2a121341405d")
    assert load_world_model().fingerprint.startswith("e82b5e71f33d0686")
    chosen = load_world_model(preset="standard", window=8)
    assert chosen.fingerprint.startswith("ac8ed402ba5603cf")
