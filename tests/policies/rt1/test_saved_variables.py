"""Checkpoints as TensorFlow reads them, and errors of damaged ones."""

from pathlib import Path

import numpy as np
import pytest

from tests.saved_models import tensorflow, write_variables
from v2w_gym.policies.rt1.saved_variables import open_variables

KEY = "model_variables/{}/.ATTRIBUTES/VARIABLE_VALUE"
VALUES = {
    1: np.arange(6, dtype=np.float32).reshape(2, 3),
    2: np.array([0.5, 1.5], np.float16),
    3: np.array(-7, np.int64),
    10: np.zeros((0, 3), np.float32),
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1000000\n"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The prefix of a checkpoint in a SavedModel's folder."""
    prefix = tmp_path / "variables" / "variables"
    tf = tensorflow()
    variables = {i: tf.Variable(value, name=f"layer_{i}") for i, value in VALUES.items()}
    write_variables(prefix, variables)
    return prefix


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_variables_by_their_keys_and_by_the_names_that_the_program_gave_them(written):
    for path in (written, written.parent, written.parent.parent):
        saved = open_variables(path)
        for number, expected in VALUES.items():
            found = saved.read(KEY.format(number))
            assert found.dtype == expected.dtype and found.shape == expected.shape
            assert (found == expected).all()
        assert saved.program_names()[KEY.format(10)] == "layer_10"
        assert list(saved.keys) == sorted(saved.keys)


def test_numbers_that_numpy_does_not_know_are_read(tmp_path):
    tf = tensorflow()
    write_variables(tmp_path / "ckpt", {1: tf.Variable([1.5, -2], dtype=tf.bfloat16)})
    found = open_variables(tmp_path / "ckpt").read(KEY.format(1))
    assert found.astype(np.float32).tolist() == [1.5, -2]


def test_damaged_data_name_the_variable(written):
    flip(written.with_name("variables.data-00000-of-00001"), 1)
    saved = open_variables(written)
    assert saved.read(KEY.format(3)) == -7
    with pytest.raises(ValueError, match=r"expected model_variables/1/.*[Cc]hecksum.*; copy it"):
        saved.read(KEY.format(1))


def test_truncated_or_missing_data_are_refused(written):
    data = written.with_name("variables.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:3])
    with pytest.raises(ValueError, match=r"expected model_variables/1/.*variables.index, found"):
        open_variables(written).read(KEY.format(1))
    data.unlink()
    with pytest.raises(ValueError, match="00000-of-00001.*No such file"):
        open_variables(written).read(KEY.format(1))


@pytest.mark.parametrize("length", [0, 5, 48, 100])
def test_a_truncated_index_is_refused(written, length):
    index = written.with_name("variables.index")
    index.write_bytes(index.read_bytes()[:length])
    with pytest.raises(ValueError, match="expected the index of a checkpoint in .*; copy it again"):
        open_variables(written)


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_pointers_of_git_lfs_are_recognised(written, name):
    written.with_name(name).write_bytes(POINTER)
    with pytest.raises(ValueError, match=f"{name}, found a git-LFS pointer.*git lfs pull"):
        open_variables(written)


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected variables/variables.index in"):
        open_variables(tmp_path)
