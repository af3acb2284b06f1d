import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_gym.evaluation.checks.parity.parity import CHECKS, run_parity, run_vector
from v2w_gym.evaluation.checks.parity.vectors import load_vector
from v2w_gym.world_models.files import sha256_of


@pytest.mark.parametrize("kind", ["schedule", "resampler", "unet_csgo"])
def test_the_vectors_kept_here_pass(kept, kind):
    result = run_vector(kept / f"{kind}.json")
    assert result.passed, result
    assert str(result).split()[:2] == [kind, "pass"]


@pytest.mark.parametrize("kind", CHECKS)
def test_every_vector_passes(vector_path, kind):
    result = run_vector(vector_path(kind))
    assert result.passed, result


@pytest.mark.parametrize("kind", ["vae", "resampler", "clip_image", "clip_text"])
def test_every_output_of_a_tower_is_compared(vector_path, kind):
    path = vector_path(kind)
    compared = {f"out/{comparison.name}" for comparison in run_vector(path).comparisons}
    assert compared == {name for name in load_vector(path).tensors if name.startswith("out/")}


@pytest.fixture
def copied(kept, tmp_path):
    """A vector of our own to damage: `change(name -> tensor)` and `settings` go into it."""

    def make(name, change=None, **settings):
        tensors = load_file(kept / f"{name}.safetensors")
        for key, value in (change or {}).items():
            tensors[key] = value(tensors.get(key))
        save_file(tensors, tmp_path / f"{name}.safetensors")
        info = json.loads((kept / f"{name}.json").read_text()) | settings
        info["sha256"] = sha256_of(tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.json").write_text(json.dumps(info))
        return tmp_path / f"{name}.json"

    return make


def test_another_output_fails(copied):
    result = run_vector(copied("unet_csgo", {"out/w16/y": lambda y: y * (1 + 1e-4)}))
    assert not result.passed and result.worst.used > 1 and result.worst.name == "w16/y"
    assert "FAIL" in str(result)


@pytest.mark.parametrize("window", ["w4_masked", "w16"])
def test_a_reference_output_that_is_no_number_fails(copied, window):
    result = run_vector(copied("unet_csgo", {f"out/{window}/y": lambda y: y * float("nan")}))
    assert not result.passed and result.worst.name == f"{window}/y"


def test_another_weight_fails(copied):
    name = "state/middle_block.2.transformer_blocks.0.attn1.to_q.weight"
    assert not run_vector(copied("unet_csgo", {name: lambda w: w * 1.01})).passed


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"case": "unet_csgp"}, "did you mean 'unet_csgo'"),
        ({"windows": {}}, "expected tensors to compare, found none"),
        ({"windows": {"w9": {}}}, "expected tensor 'in/w9/x'"),
        ({"windows": {"w4_masked": {}}, "case": "weight_transfer"}, "expected tensor 'in/x'"),
    ],
)
def test_what_cannot_be_run_says_why(copied, settings, problem):
    result = run_vector(copied("unet_csgo", **settings))
    assert not result.passed
    assert problem in result.problem or problem in str(result)


def test_weights_of_a_choice_that_this_network_has_not_are_refused(copied):
    name = "state/init_attn.0.transformer_blocks.0.attn1.relative_position_k.table"
    path = copied("unet_csgo", {name: lambda _: torch.zeros(1)})
    assert "relative_position_k" in run_vector(path).problem


def test_one_vector_that_cannot_be_run_does_not_stop_the_others(copied, tmp_path):
    copied("resampler")
    (tmp_path / "broken.json").write_text("{")
    results = {result.name: result.passed for result in run_parity(tmp_path)}
    assert results == {"broken": False, "resampler": True}


def test_vectors_in_folders_of_their_own_are_found(copied, tmp_path):
    moved = copied("resampler").rename
    (tmp_path / "own").mkdir()
    moved(tmp_path / "own" / "resampler.json")
    (tmp_path / "resampler.safetensors").rename(tmp_path / "own" / "resampler.safetensors")
    assert [result.name for result in run_parity(tmp_path)] == ["resampler"]
    assert [result.name for result in run_parity(tmp_path / "own")] == ["resampler"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected reference test vectors"):
        run_parity(tmp_path)
