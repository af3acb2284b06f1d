import json

import pytest
import torch

from v2w_gym.evaluation.checks.parity.vectors import Tolerance, compare, load_vector


def compared(ours, reference, *limits, **settings):
    return compare("x", torch.tensor(ours), torch.tensor(reference), Tolerance(*limits, **settings))


def test_a_difference_is_held_against_the_largest_value():
    close = compared([1.0, 100.1], [1.0, 100.0], 1e-2)
    assert close.relative == pytest.approx(1e-3, rel=1e-3)
    assert close.used == pytest.approx(0.1, rel=1e-3)
    assert compared([1.5, 100.0], [1.0, 100.0], 1e-2).used == pytest.approx(0.5)


def test_elementwise_holds_each_value_against_itself():
    assert compared([1.5, 100.0], [1.0, 100.0], 1e-2, elementwise=True).used == pytest.approx(50)


def test_something_may_be_added_to_the_share():
    assert compared([3e-5], [0.0], 1e-5, 2e-5).used == pytest.approx(1.5)


@pytest.mark.parametrize("ours", [[float("nan")], [float("inf")], [1.0, 1.0]])
def test_nonsense_and_other_shapes_never_pass(ours):
    assert compared(ours, [1.0], 1.0, 1.0).used == float("inf")


@pytest.mark.parametrize("reference", [float("nan"), float("inf")])
def test_a_reference_value_that_is_no_number_is_never_met(reference):
    broken = compared([1.0, 2.0], [1.0, reference], 1e-5, 2e-5)
    assert broken.used == float("inf") and broken.relative == float("inf")


def test_nothing_to_compare_is_no_difference():
    assert compared([], [], 1e-2)[1:3] == (0, 0)


def test_nothing_may_differ_where_nothing_is_accepted():
    assert compared([1.0], [1.0], 0.0).used == 0
    assert compared([1.0 + 1e-6], [1.0], 0.0).used > 1


@pytest.fixture
def folder(kept, tmp_path):
    for ending in (".json", ".safetensors"):
        (tmp_path / f"resampler{ending}").write_bytes((kept / f"resampler{ending}").read_bytes())
    return tmp_path


def test_a_vector_knows_its_weights(folder):
    vector = load_vector(folder / "resampler.json")
    assert vector.kind == "resampler" and "latents" in vector.weights()


def test_damaged_tensors_are_refused(folder):
    weights = folder / "resampler.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="with the sha256 in resampler.json, found another file"):
        load_vector(folder / "resampler.json")
    weights.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="expected reference tensors"):
        load_vector(folder / "resampler.json")


def test_weights_that_lie_elsewhere_must_be_there(folder):
    info = json.loads((folder / "resampler.json").read_text())
    info["state_from"] = "other.safetensors"
    (folder / "resampler.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"expected reference tensors at .*other\.safetensors"):
        load_vector(folder / "resampler.json").weights()


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="expected a reference test vector"):
        load_vector(tmp_path / "x.json")


def test_a_tensor_that_is_not_there_is_named(folder):
    with pytest.raises(ValueError, match="expected tensor 'in/y' in vector 'resampler'"):
        load_vector(folder / "resampler.json").tensor("in/y")
