import json

import pytest

from v2w_gym.evaluation.checks.parity.vectors import load_vector


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
    with pytest.raises(ValueError, match="expected .* safetensors weights"):
        load_vector(folder / "resampler.json")


def test_weights_that_lie_elsewhere_must_be_there(folder):
    info = json.loads((folder / "resampler.json").read_text())
    info["state_from"] = "other.safetensors"
    (folder / "resampler.json").write_text(json.dumps(info))
    with pytest.raises(
        ValueError, match=r"expected .* safetensors weights at .*other\.safetensors"
    ):
        load_vector(folder / "resampler.json").weights()


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="expected a reference test vector"):
        load_vector(tmp_path / "x.json")


def test_a_tensor_that_is_not_there_is_named(folder):
    with pytest.raises(ValueError, match="expected tensor 'in/y' in vector 'resampler'"):
        load_vector(folder / "resampler.json")["in/y"]
