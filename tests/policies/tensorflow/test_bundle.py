"""Checkpoint bundles: one that TensorFlow 2.21 wrote, and ones that are damaged in every way."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.bundles import STEP, VALUE, message, number, table, write_bundle
from v2w_gym.policies.tensorflow.bundle import read_bundle
from v2w_gym.policies.tensorflow.table import read_table

GOLDEN = Path(__file__).parents[2] / "golden" / "tensorflow"
"""A SavedModel without its graph: 20 kernels (2, 3) of quarters, then one variable of each type."""

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000000\n"
)
ODD = {
    21: np.array([1, -2], np.int32),
    22: np.array([0.5, 1.5], np.float16),
    23: np.array([[True, False]]),
    24: np.zeros((0, 3), np.float32),
    25: np.array(-1.25, np.float64),
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The prefix of a bundle in two data files, whose index is compressed."""
    prefix = tmp_path / "variables" / "variables"
    prefix.parent.mkdir()
    tensors = {f"layer_{i}": np.full(i, i, np.float32) for i in range(120)}
    write_bundle(prefix, tensors, {"layer_3": "dense/kernel"}, snappy=True, shards=2)
    return prefix


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_tensorflow_wrote_is_read_back():
    bundle = read_bundle(GOLDEN)
    for i in range(1, 21):
        found = bundle.tensor(VALUE.format(i))
        assert found.dtype == np.float32 and bundle.dtype(VALUE.format(i)) == "float32"
        assert (found == np.arange(6).reshape(2, 3) / 4 - i).all()
    for i, expected in ODD.items():
        found = bundle.tensor(VALUE.format(i))
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert bundle.shape(VALUE.format(i)) == expected.shape
        assert (found == expected).all()
    assert bundle.tensor(STEP) == 424760 and bundle.crc(STEP) == 432599519


def test_variables_have_the_names_that_the_program_gave_them():
    names = read_bundle(GOLDEN).variable_names()
    assert names[STEP] == "global_step" and names[VALUE.format(12)] == "layer_12/kernel"
    assert len(names) == 28


def test_names_are_in_the_order_of_their_bytes():
    names = read_bundle(GOLDEN).names
    assert list(names) == sorted(names) and len(names) == 29
    assert names[2:5] == (VALUE.format(1), VALUE.format(10), VALUE.format(11))


@pytest.mark.parametrize("name", ["words", "brain"])
def test_types_without_numbers_of_ours_are_refused(name):
    with pytest.raises(ValueError, match=f"one piece at {name}.* found type (string|14)"):
        read_bundle(GOLDEN).tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE")


def test_the_same_index_compressed_reads_the_same(tmp_path):
    plain = (GOLDEN / "variables" / "variables.index").read_bytes()
    packed = table(read_table(plain), snappy=True, per_block=7)
    assert packed != plain and read_table(packed) == read_table(plain)
    same = table(read_table(plain), snappy=False, per_block=1000)
    assert same[:1500] == plain[:1500]  # the block of entries, as TensorFlow writes it


def test_a_bundle_in_many_blocks_and_two_files(written):
    for path in (written, written.parent, written.parent.parent):
        bundle = read_bundle(path)
        assert len(bundle.names) == 121
        for i in range(120):
            assert (bundle.tensor(f"layer_{i}") == np.full(i, i)).all()
        assert bundle.variable_names() == {"layer_3": "dense/kernel"}


def test_numbers_belong_to_the_caller(written):
    bundle = read_bundle(written)
    bundle.tensor("layer_2")[:] = 9
    assert (bundle.tensor("layer_2") == 2).all()


def test_damaged_data_name_the_tensor(written):
    data = written.with_name("variables.data-00000-of-00002")
    flip(data, data.stat().st_size - 1)
    bundle = read_bundle(written)
    bundle.tensor("layer_3")
    damaged = bundle.names[-1]
    with pytest.raises(ValueError, match=f"expected {damaged} with checksum .* damaged: copy"):
        bundle.tensor(damaged)


def test_damaged_names_are_noticed(tmp_path):
    write_bundle(tmp_path / "variables", {}, {"a": "dense/kernel"})
    flip(tmp_path / "variables.data-00000-of-00001", 12)
    with pytest.raises(ValueError, match="expected _CHECKPOINTABLE_OBJECT_GRAPH with checksum"):
        read_bundle(tmp_path).variable_names()


def test_every_damaged_byte_of_an_index_is_noticed_or_does_not_matter(tmp_path):
    write_bundle(
        tmp_path / "variables", {n: np.ones(2, np.float32) for n in "abc"}, {}, snappy=True
    )
    index = tmp_path / "variables.index"
    whole = index.read_bytes()
    expected = [(name, read_bundle(tmp_path).crc(name)) for name in "abc"]
    unused = 0
    for at in range(len(whole)):
        flip(index, at)
        try:
            bundle = read_bundle(tmp_path)
            assert [(name, bundle.crc(name)) for name in bundle.names] == expected
            unused += 1
        except ValueError as error:
            assert "expected the index of a checkpoint in" in str(error)
        index.write_bytes(whole)
    assert unused < 60  # padding, and the empty block that is not read


@pytest.mark.parametrize("length", [0, 5, 47, 48, 1000])
def test_a_truncated_index_is_refused(written, length):
    index = written.with_name("variables.index")
    index.write_bytes(index.read_bytes()[:length])
    with pytest.raises(ValueError, match="expected the index of a checkpoint.*found this.*copy"):
        read_bundle(written)


def test_truncated_data_are_refused_before_anything_is_read(written):
    data = written.with_name("variables.data-00000-of-00002")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"expected at least \d+ bytes in .*00000-of-00002, found"):
        read_bundle(written)


def test_a_missing_data_file_is_named(written):
    written.with_name("variables.data-00001-of-00002").unlink()
    with pytest.raises(FileNotFoundError, match="2 data files .* no variables.data-00001-of-00002"):
        read_bundle(written)


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00001-of-00002"])
def test_pointers_of_git_lfs_are_recognised(written, name):
    written.with_name(name).write_bytes(POINTER)
    with pytest.raises(ValueError, match=f"{name}, found a git-LFS pointer.*git lfs pull"):
        read_bundle(written)


def test_no_bundle_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected variables/variables.index in"):
        read_bundle(tmp_path)


def test_big_endian_numbers_are_refused(tmp_path):
    header = number(1, 1) + number(2, 1)
    write_bundle(tmp_path / "variables", {"a": np.ones(1, np.float32)}, {}, header)
    with pytest.raises(ValueError, match="expected little-endian"):
        read_bundle(tmp_path)


def test_a_tensor_in_parts_is_refused(tmp_path):
    entry = number(1, 1) + message(2, message(2, number(1, 4))) + message(7, message(1, b""))
    header = number(1, 1)
    index = table({b"": header, b"split": entry, b"\x00\xff": number(1, 1)}, snappy=False)
    (tmp_path / "variables.index").write_bytes(index)
    (tmp_path / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(ValueError, match="one piece at split .* found parts; save the model"):
        read_bundle(tmp_path).tensor("split")


def test_a_size_that_does_not_fit_the_shape_is_refused(tmp_path):
    entry = number(1, 1) + message(2, message(2, number(1, 2))) + number(5, 4)
    (tmp_path / "variables.index").write_bytes(table({b"": number(1, 1), b"a": entry}, False))
    (tmp_path / "variables.data-00000-of-00001").write_bytes(bytes(4))
    with pytest.raises(ValueError, match=r"expected float32 \(2,\) at a .* found 4 bytes"):
        read_bundle(tmp_path).tensor("a")


def test_another_file_is_no_index(tmp_path):
    shutil.copy(__file__, tmp_path / "variables.index")
    with pytest.raises(ValueError, match="expected a table that ends in the number 0xdb4775248b"):
        read_bundle(tmp_path)


@pytest.mark.slow
def test_tensorflow_reads_the_bundles_of_these_tests(written):
    """What is written by hand here is the format itself, not this project's idea of it."""
    python = os.environ.get("V2W_TF_PYTHON")
    if not python:
        pytest.skip("needs V2W_TF_PYTHON, a Python with TensorFlow")
    code = (
        "import sys, tensorflow as tf; read = tf.train.load_checkpoint(sys.argv[1]).get_tensor; "
        "assert all(read(f'layer_{i}').tolist() == [i] * i for i in range(120)); "
        "assert b'dense/kernel' in read('_CHECKPOINTABLE_OBJECT_GRAPH')"
    )
    subprocess.run([python, "-c", code, str(written)], check=True)
