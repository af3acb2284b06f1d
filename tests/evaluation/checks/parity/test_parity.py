import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from v2w_gym.evaluation.checks.parity.parity import (
    CHECKS,
    Tolerance,
    compare,
    run_parity,
    run_vector,
)
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


def compared(ours, reference, *limits, **settings):
    return compare("x", torch.tensor(ours), torch.tensor(reference), Tolerance(*limits, **settings))


@pytest.mark.parametrize(
    ("ours", "reference", "limits", "used"),
    [
        ([1.0, 100.1], [1.0, 100.0], {"share": 1e-2}, 0.1),  # of the largest value
        ([1.5, 100.0], [1.0, 100.0], {"share": 1e-2, "elementwise": True}, 50),
        ([3e-5], [0.0], {"share": 1e-5, "plus": 2e-5}, 1.5),
        ([1.0], [1.0], {"share": 0.0}, 0),
        ([], [], {"share": 1e-2}, 0),
        ([2e-7, 1e-8], [1e-7, 1e-8], {"share": 1e-4, "noise": 1e-6}, 0.1),  # all of it is noise
        ([1e-8, 1.0], [0.0, 1.0], {"share": 1e-4, "noise": 1e-6}, 1e-4),  # none of it is
        ([1e-7, 1.0], [0.0, 1.0], {"share": 1e-4, "noise": 1e-6, "elementwise": True}, 0.1),
    ],
)
def test_the_largest_difference_uses_so_much_of_the_tolerance(ours, reference, limits, used):
    assert compared(ours, reference, **limits).used == pytest.approx(used, rel=1e-2)


def test_the_relative_error_is_of_the_largest_value_that_is_no_noise():
    assert compared([1.0, 100.1], [1.0, 100.0], 1e-2).relative == pytest.approx(1e-3, rel=1e-2)
    assert compared([2e-7], [1e-7], 1e-4, noise=1e-6).relative is None
    assert compared([1.1], [1.0], 0.0, 1.0).relative is None


def test_nothing_may_differ_where_nothing_is_accepted():
    assert compared([1.0 + 1e-6], [1.0], 0.0).used > 1


@pytest.mark.parametrize("noise", [0.0, 1e-6])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_never_pass(value, noise):
    assert compared([1.0, value], [1.0, 1.0], 1.0, 1.0, noise=noise).used == float("inf")
    broken = compared([1.0, 2.0], [1.0, value], 1e-5, 2e-5, noise=noise)
    assert broken.used == float("inf") and broken.relative == float("inf")


def test_another_shape_never_passes():
    assert compared([1.0, 1.0], [1.0], 1.0, 1.0).used == float("inf")


@pytest.fixture
def copied(kept, tmp_path):
    """A vector of our own to damage: `change` (name -> function of the tensor) and `settings`."""

    def make(name, change=None, **settings):
        tensors = load_file(kept / f"{name}.safetensors")
        for key, value in (change or {}).items():
            tensors[key] = value(tensors.get(key))
        tensors = {key: value for key, value in tensors.items() if value is not None}
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


def gone(_):
    return None


@pytest.mark.parametrize(
    ("change", "settings", "problem"),
    [
        ({}, {"case": "unet_csgp"}, "did you mean 'unet_csgo'"),
        (
            {"out/w16/y": gone, "out/w4_masked/y": gone},
            {},
            "expected outputs to compare, found none",
        ),
        ({"in/w16/x": gone, "in/w16/x_noisy": gone}, {}, "expected tensor 'in/w16/x"),
        ({}, {"case": "weight_transfer"}, "expected tensor 'in/action'"),
        ({}, {"case": "resampler"}, "KeyError"),
        ({"out/new/z": lambda _: torch.zeros(1)}, {}, "expected tensor 'in/new/z"),
    ],
)
def test_what_cannot_be_run_says_why(copied, change, settings, problem):
    result = run_vector(copied("unet_csgo", change, **settings))
    assert not result.passed
    assert problem in result.problem or problem in str(result)


def test_an_output_that_nothing_computes_is_named(copied):
    path = copied("resampler", {"out/z": lambda _: torch.zeros(1)})
    assert "expected outputs that v2w_gym computes too, found 'z'" in run_vector(path).problem


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
