"""Inputs that a world model does not have, declared as constants in a policy file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from v2w_gym.policies.processing.constants import add_constants, load_constants


def test_numbers_are_float32_of_the_shape_they_are_written_in() -> None:
    found = load_constants({"grip": 0.5, "state": [0, 1, -2.5], "pose": [[1, 0], [0, 1]]})
    assert {name: values.shape for name, values in found.items()} == {
        "grip": (),
        "state": (3,),
        "pose": (2, 2),
    }
    assert found["state"].tolist() == [0, 1, -2.5]
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


def test_zeros_and_black_images_are_named_by_their_size() -> None:
    found = load_constants({"joints": {"zeros": [7]}, "wrist": {"image": [4, 6]}})
    assert (found["joints"].dtype, found["joints"].tolist()) == (np.float32, [0] * 7)
    assert (found["wrist"].dtype, found["wrist"].shape) == (np.uint8, (4, 6, 3))
    assert not found["wrist"].any()


def test_null_leaves_an_input_out() -> None:
    assert list(load_constants({"depth": None, "grip": 0})) == ["grip"]


def test_an_image_file_is_given_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wrist.png")
    found = load_constants({"wrist": {"image": str(tmp_path / "wrist.png")}})
    assert (found["wrist"] == pixels).all()


@pytest.mark.parametrize(
    "declared",
    [
        "zeros",
        True,
        [1, "two"],
        [[1], [1, 2]],
        [1, float("nan")],
        1e39,
        10**400,
        {},
        {"zeros": 7},
        {"zeros": []},
        {"zeros": [-1]},
        {"zeros": [2.0]},
        {"zeros": [10**12]},
        {"zeros": [10**5, 10**5]},
        {"image": [224]},
        {"image": [0, 224]},
        {"image": [10**5, 10**5]},
        {"zeros": [1], "image": [1, 1]},
        {"ones": [1]},
    ],
)
def test_what_declares_no_array_is_refused(declared: object) -> None:
    with pytest.raises(ValueError, match="expected input 'state' to be a number, a list .* found"):
        load_constants({"state": declared})


def test_a_missing_or_broken_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="image of input 'wrist' at .*none.png, found no"):
        load_constants({"wrist": {"image": str(tmp_path / "none.png")}})
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="expected an image for input 'wrist' in .*text.png"):
        load_constants({"wrist": {"image": str(tmp_path / "text.png")}})


def test_constants_are_part_of_a_policys_fingerprint() -> None:
    declared = [{}, {"a": [0, 0]}, {"b": [0, 0]}, {"a": [0, 1]}, {"a": [[0, 0]]}, {"a": 0, "b": 0}]
    found = [add_constants("weights", load_constants(inputs)) for inputs in declared]
    assert found[0] == "weights"
    assert len(set(found)) == len(found)
    both = add_constants("weights", load_constants({"b": 0, "a": 0}))
    assert both == found[-1] != add_constants("others", load_constants({"b": 0, "a": 0}))
