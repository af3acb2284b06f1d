"""TFRecord files and tf.train.Example messages, against bytes worked out by hand."""

import struct

import numpy as np
import pytest

from tests.rlds_folders import example, write_records
from v2w_gym.world_models.data.tfrecord import RecordFile, feature_values, masked_crc, read_example

RECORDS = [b"one", b"", b"three" * 100]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.tfrecord"
    write_records(path, RECORDS)
    return RecordFile(path)


def test_checksum():
    # CRC-32C of "123456789" is 0xE3069283 (the check value of RFC 3720's polynomial). Rotated
    # right by 15 bits: 0xE3069283 >> 15 = 0x1C60D, its low 15 bits 0x1283 to the top: 0x2506 << 16.
    assert (0x1C60D | 0x1283 << 17) == 0x2507C60D
    assert masked_crc(b"123456789") == 0x2507C60D + 0xA282EAD8


def test_layout_of_a_record(tmp_path):
    # Of "foo" the checksum is known from outside this project: crc32c 0xCFC4AE1D.
    crc = ((0xCFC4AE1D >> 15 | 0xCFC4AE1D << 17) + 0xA282EAD8) & 0xFFFFFFFF
    length = struct.pack("<Q", 3)
    path = tmp_path / "by_hand"
    path.write_bytes(
        length + struct.pack("<I", masked_crc(length)) + b"foo" + struct.pack("<I", crc)
    )
    assert list(RecordFile(path).read()) == [b"foo"]


def test_in_order_and_by_number(file):
    assert list(file.read()) == RECORDS
    assert list(file.read(2)) == RECORDS[2:]
    assert len(file) == 3
    assert [file[2], file[0], file[1]] == [RECORDS[2], RECORDS[0], RECORDS[1]]


@pytest.mark.parametrize("number", [3, -1])
def test_no_such_record(file, number):
    with pytest.raises(IndexError, match=f"a record from 0 to 2 of .*a.tfrecord, found {number}"):
        file[number]


def test_an_empty_file_has_no_records(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    assert list(RecordFile(path).read()) == []
    assert len(RecordFile(path)) == 0


# Record 0 takes 16 + 3 bytes, record 1 takes 16.
@pytest.mark.parametrize(
    ("kept", "record", "found"),
    [
        (5, 0, "ends within its header"),
        (13, 0, "ends after 1 of 3 bytes"),
        (17, 0, "ends after 3 of 3 bytes"),  # within the checksum
        (30, 1, "ends within its header"),
        (100, 2, "ends after 53 of 500 bytes"),
    ],
)
def test_truncated(file, kept, record, found):
    file.path.write_bytes(file.path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"whole record {record} in .*a.tfrecord.*{found}.*again"):
        list(file.read())
    with pytest.raises(ValueError, match=f"whole record {record} in .*a.tfrecord"):
        len(file)


@pytest.mark.parametrize(
    ("at", "record", "found"),
    [(2, 0, "its length"), (13, 0, "its data"), (16, 0, "its data"), (60, 2, "its data")],
)
def test_a_changed_byte(file, at, record, found):
    data = bytearray(file.path.read_bytes())
    data[at] ^= 1
    file.path.write_bytes(data)
    with pytest.raises(ValueError, match=f"record {record} in .*checksum of {found} does not"):
        list(file.read())


def test_another_file(tmp_path):
    path = tmp_path / "features.json"
    path.write_text('{"featuresDict": {}}')
    with pytest.raises(ValueError, match="record 0 in .*features.json.*or no TFRecord file"):
        list(RecordFile(path).read())


def test_a_git_lfs_pointer(tmp_path):
    path = tmp_path / "pointer"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3474742\n")
    with pytest.raises(ValueError, match="pointer, found a git-LFS pointer.*git lfs pull"):
        list(RecordFile(path).read())


def test_example_by_hand():
    # Features{"a": Int64List [7, -1]} with unpacked numbers, one entry of 20 bytes.
    entry = b"\x0a\x01a" + b"\x12\x0f" + b"\x1a\x0d" + b"\x08\x07" + b"\x08" + b"\xff" * 9 + b"\x01"
    record = b"\x0a\x16" + b"\x0a\x14" + entry
    assert len(entry) == 0x14
    found = read_example(record)
    assert list(found) == ["a"]
    values = feature_values(found["a"])
    assert values.dtype == np.int64
    assert values.tolist() == [7, -1]


def test_unpacked_floats():
    one, half = b"\x0d\x00\x00\x80\x3f", b"\x0d\x00\x00\x00\x3f"
    values = feature_values(memoryview(b"\x12\x0a" + one + half))
    assert values.dtype == np.float32
    assert values.tolist() == [1.0, 0.5]


def test_every_kind_packed():
    floats = np.array([0.5, -2.0], np.float32)
    record = example({"f": floats, "i": np.array([300, -5]), "s": ["a", b"\xff", ""]})
    found = {name: feature_values(value) for name, value in read_example(record).items()}
    assert found["f"].tolist() == [0.5, -2.0]
    assert found["i"].tolist() == [300, -5]
    assert [bytes(value) for value in found["s"]] == [b"a", b"\xff", b""]


def test_nothing_in_a_feature():
    assert feature_values(memoryview(b"")) == []
    assert feature_values(memoryview(b"\x12\x00")).dtype == np.float32
    assert feature_values(memoryview(b"\x1a\x00")).dtype == np.int64


@pytest.mark.parametrize("record", [b"\x08\x01", b"\x0a\x05\x0a\x01", b"plain text"])
def test_not_an_example(record):
    with pytest.raises(ValueError, match="expected"):
        read_example(record)
