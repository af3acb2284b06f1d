"""Arrays on disk: what is true is read as far as it is wanted, and what lies is one clear line."""

import io
import zipfile

import numpy as np
import pytest

from v2w_gym.world_models.data.decoding import arrays
from v2w_gym.world_models.data.decoding.arrays import (
    array_header,
    as_numbers,
    open_arrays,
    read_array,
    reading,
)

VALUES = np.arange(24, dtype=np.float32).reshape(4, 3, 2)


def header(shape, kind="|u1"):
    file = io.BytesIO()
    described = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()


def test_any_array_that_numpy_writes_is_read(tmp_path):
    stored = {
        "numbers": VALUES,
        "columns_first": np.asfortranarray(VALUES),
        "text": np.array("meta"),
        "big_endian": VALUES.astype(">f8"),
        "empty": np.zeros((0, 3), bool),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "some.npz", **stored)
        with open_arrays(tmp_path / "some.npz") as file:
            assert set(file.names) == set(stored)
            for name, value in stored.items():
                found = file.read(name)
                np.testing.assert_array_equal(found, value)
                assert (found.dtype, file.header(name).shape) == (value.dtype, value.shape)
                if value.ndim:
                    np.testing.assert_array_equal(file.read(name, 1, 3), value[1:3])


@pytest.mark.parametrize("values", [VALUES, np.asfortranarray(VALUES)], ids=["C", "Fortran"])
def test_some_rows_of_an_array(tmp_path, values):
    np.save(tmp_path / "some.npy", values)
    assert array_header(tmp_path / "some.npy").shape == (4, 3, 2)
    for start in (0, 1, 4, 9):
        for stop in (0, 1, 4, 9, None):
            found = read_array(tmp_path / "some.npy", start, stop)
            np.testing.assert_array_equal(found, VALUES[start:stop])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            header((10**6, 1000, 1000, 3)) + bytes(100),
            "3,000,000,000,000 bytes, but only 100 bytes",
        ),
        (header((10**30, 3)) + bytes(100), "but only 100 bytes"),
        (header((-1, 3)) + bytes(100), r"uint8 \(-1, 3\)"),
        (header((2, 2), "|O") + bytes(100), "array of object, which cannot be loaded"),
        (header((2, 2), "<U0") + bytes(100), "cannot be loaded"),
        (header((2, 2))[:30], "array header"),
        (b"\x93NUMPY\x09\x00" + bytes(100), r"format \(9, 0\)"),
        (header((2, 2)).replace(b"(2, 2)", b"((2, 2"), "the file is damaged: copy it again"),
        (b"", "end|EOF"),
    ],
)
def test_a_header_that_lies(tmp_path, content, found):
    path = tmp_path / "lie.npy"
    path.write_bytes(content)
    text = f"expected numbers at .*lie.npy, found .*{found}"
    with pytest.raises(ValueError, match=text), reading(path, f"numbers at {path}"):
        read_array(path)


def test_what_would_not_fit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """An archive may hold more than it should in one array, or in many together."""
    monkeypatch.setattr(arrays, "LARGEST", 3 << 20)
    monkeypatch.setattr(arrays, "_fill", lambda file, out: None)
    whole = np.zeros((4 << 10, 1 << 10), np.uint8)
    np.savez_compressed(tmp_path / "one.npz", a=whole)
    np.savez_compressed(tmp_path / "many.npz", a=whole[:2048], b=whole[:2048])
    with open_arrays(tmp_path / "one.npz") as file:
        assert len(file.read("a", 5, 15)) == 10
        with pytest.raises(ValueError, match=r"0.0 GiB, expected at most .*shorter recordings"):
            file.read("a")
    with open_arrays(tmp_path / "many.npz") as file:
        file.read("a")
        with pytest.raises(ValueError, match="expected at most"):
            file.read("b")


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_byte_that_is_not_what_was_written_is_noticed(tmp_path, kind):
    path, noise = tmp_path / "some.npz", np.random.default_rng(0).bytes(5000)
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("a.npy", header((5000,)) + noise)
    damaged = bytearray(path.read_bytes())
    damaged[3000] ^= 1
    path.write_bytes(damaged)
    text = "expected an array at .*some.npz.*copy it again"
    with (
        pytest.raises(ValueError, match=text),
        reading(path, f"an array at {path}"),
        open_arrays(path) as file,
    ):
        file.read("a")


def test_an_array_that_is_not_there(tmp_path):
    np.savez(tmp_path / "some.npz", b=VALUES, a=VALUES)
    with open_arrays(tmp_path / "some.npz") as file, pytest.raises(ValueError, match="no frames"):
        file.read("frames")


def test_a_pointer_is_not_the_file(tmp_path):
    path = tmp_path / "some.npz"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    text = "some.npz, found a git-LFS pointer.*git lfs pull"
    with pytest.raises(ValueError, match=text), reading(path, "arrays"):
        pass


def test_numbers_are_numbers():
    assert as_numbers("a", np.array([[True, False]]), 2).tolist() == [[1, 0]]
    assert as_numbers("a", np.array([1e300]), 1).tolist() == [np.inf]
    for wrong in (np.array(["1"]), np.array([1j]), np.array(1.0), np.array([[1.0]])):
        with pytest.raises(ValueError, match=r"`a` .* not numbers \(T,\)"):
            as_numbers("a", wrong, 1)
