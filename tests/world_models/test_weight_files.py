"""Weights in the formats of hubs and frameworks; no code in a file runs."""

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from v2w_gym.world_models.weight_files import INDEX, one_line, read_json, read_weights

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(2)}


def same(stored):
    return set(stored) == set(WEIGHTS) and all(stored[n].equal(WEIGHTS[n]) for n in WEIGHTS)


def test_the_content_decides_the_format(tmp_path):
    """A file that lies in a hub's cache has no ending."""
    save_file(WEIGHTS, tmp_path / "one")
    torch.save(WEIGHTS, tmp_path / "two")
    shutil.copy(tmp_path / "two", tmp_path / "three.safetensors")
    assert same(read_weights(tmp_path / "one"))
    assert same(read_weights(tmp_path / "two"))
    with pytest.raises(ValueError, match=r"found a PyTorch file; rename it .* \.ckpt"):
        read_weights(tmp_path / "three.safetensors")


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_parts_are_read_through_their_index(tmp_path, ending):
    index = write_parts(tmp_path, ending)
    assert same(read_weights(index))
    with pytest.raises(ValueError, match=rf"one of 2 parts; name its folder or .* model{ending}"):
        read_weights(tmp_path / f"model-00001-of-00002{ending}")
    (tmp_path / f"model-00002-of-00002{ending}").unlink()
    with pytest.raises(FileNotFoundError, match=f"found no model-00002-of-00002{ending}"):
        read_weights(index)


def write_parts(folder, ending):
    save = save_file if ending == ".safetensors" else torch.save
    places = {}
    for number, (name, value) in enumerate(WEIGHTS.items(), start=1):
        places[name] = f"model-0000{number}-of-00002{ending}"
        save({name: value}, folder / places[name])
    index = folder / f"model{ending}{INDEX}"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "[" * 100_000),
        *(f'{{"weight_map": {places}}}' for places in ("{}", '{"a": "../x"}', '{"a": 1}', '["a"]')),
    ],
)
def test_an_index_that_means_nothing_is_refused(tmp_path, text):
    path = tmp_path / f"model.safetensors{INDEX}"
    path.write_text(text)
    with pytest.raises(ValueError, match="expected an index with a weight_map of file names"):
        read_weights(path)


@pytest.mark.parametrize(
    "extra",
    [
        {"global_step": np.int64(7), "best": np.float64(0.1)},
        {"callbacks": {"dirpath": Path("/x"), "seen": defaultdict(list, {"a": [1]})}},
        {"hyper_parameters": argparse.Namespace(lr=1e-5, path=Path("y"))},
        {"hyper_parameters": OmegaConf.create({"lr": 1e-5, "layers": [1, {"a": None}]})},
    ],
)
def test_harmless_objects_beside_the_weights_are_left_out(tmp_path, extra):
    torch.save({"state_dict": WEIGHTS, **extra}, tmp_path / "x.ckpt")
    stored = read_weights(tmp_path / "x.ckpt")
    assert same(stored["state_dict"]) and set(stored) == {"state_dict", *extra}


class Trap:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call, ("code in a checkpoint ran",)


@pytest.mark.parametrize("call", [print, np.fromfile])
def test_functions_never_run(tmp_path, capfd, call):
    """Some are refused; others, of libraries whose objects are harmless, are left out."""
    torch.save({"state_dict": WEIGHTS, "callback": Trap(call)}, tmp_path / "x.ckpt")
    if call is print:
        with pytest.raises(ValueError, match=r"could run code: \['builtins.print'\]; .*state_dict"):
            read_weights(tmp_path / "x.ckpt")
    else:
        read_weights(tmp_path / "x.ckpt")
    assert "ran" not in capfd.readouterr().out


def test_an_object_is_refused_by_name_in_one_clean_line(tmp_path):
    torch.save({"state_dict": WEIGHTS, "model": torch.nn.Linear(1, 1)}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.linear\.Linear") as raised:
        read_weights(tmp_path / "x.ckpt")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("ending", [".ckpt", ".safetensors", ".bin"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, ending):
    path = tmp_path / f"model{ending}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match="found a git-LFS pointer"):
        read_weights(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\x10" + bytes(7) + b"{" * 16, b"PK\x03\x04"])
@pytest.mark.parametrize("ending", [".ckpt", ".safetensors", ""])
def test_other_content_is_refused_in_one_line(tmp_path, content, ending):
    path = tmp_path / f"model{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="expected (a whole|complete)") as raised:
        read_weights(path)
    assert str(raised.value).isprintable()


def test_json_that_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "card.json"
    assert read_json(path) is None
    for text in ("{", "[" * 200_000, "1" * 5000):
        path.write_text(text)
        assert read_json(path) is None
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}


def test_a_pointer_in_place_of_a_card_or_an_index_is_named(tmp_path):
    for name in ("model.json", f"model.safetensors{INDEX}"):
        path = tmp_path / name
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        with pytest.raises(ValueError, match=f"{name}, found a git-LFS pointer"):
            read_json(path)


def test_a_message_is_one_printable_line():
    assert one_line("a\x1b[31mb\u202ec\nd") == "a[31mbc"
