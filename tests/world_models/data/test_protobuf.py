"""Protocol buffers against bytes worked out by hand from the encoding's description."""

import struct

import numpy as np
import pytest

from v2w_gym.world_models.data.protobuf import fields, signed, varint, varints


def test_a_number_has_seven_bits_a_byte_lowest_first():
    # 300 = 10 0101100: 0x2C with "more follows" is 0xAC, then 0x02.
    assert varint(b"\xac\x02", 0) == (300, 2)
    assert varint(b"\xff\xac\x02\x01", 1) == (300, 3)
    assert varint(b"\x00", 0) == (0, 1)


def test_every_wire_type():
    message = (
        b"\x08\x96\x01"  # field 1, varint: 150
        b"\x12\x07testing"  # field 2, seven bytes
        b"\x1d\x00\x00\x80\x3f"  # field 3, fixed32: 1.0
        b"\x21\x00\x00\x00\x00\x00\x00\xf0\x3f"  # field 4, fixed64: 1.0
        b"\x82\x01\x00"  # field 16 needs a key of two bytes; empty
    )
    one, two, three, four, last = fields(message)
    assert one == (1, 0, 150)
    assert two == (2, 2, b"testing")
    assert three[:2] == (3, 5)
    assert four[:2] == (4, 1)
    assert struct.unpack("<f", three[2].to_bytes(4, "little")) == (1.0,)
    assert struct.unpack("<d", four[2].to_bytes(8, "little")) == (1.0,)
    assert last == (16, 2, b"")


def test_an_empty_message_has_no_fields():
    assert list(fields(b"")) == []


def test_nested_messages_are_read_the_same_way_and_a_view_is_not_copied():
    whole = memoryview(b"\x1a\x03\x08\x96\x01")
    ((number, _, inner),) = fields(whole)
    assert number == 3
    assert isinstance(inner, memoryview)
    assert inner.obj is whole.obj
    assert list(fields(inner)) == [(1, 0, 150)]


def test_negative_numbers_take_ten_bytes():
    minus_two = b"\xfe" + b"\xff" * 8 + b"\x01"
    value, at = varint(minus_two, 0)
    assert (signed(value), at) == (-2, 10)
    assert signed(2**63 - 1) == 2**63 - 1
    found = varints(b"\x01" + minus_two + b"\xac\x02")
    assert found.dtype == np.int64
    assert found.tolist() == [1, -2, 300]


def test_packed_small_numbers():
    found = varints(b"\x00\x01\x7f")
    assert found.dtype == np.int64
    assert found.tolist() == [0, 1, 127]
    assert varints(b"").tolist() == []


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",  # a key and no value
        b"\x08\x96",  # half a number
        b"\x12\x07testin",  # six bytes of seven
        b"\x1d\x00\x00\x80",  # three bytes of four
        b"\x21\x00\x00",
        b"\x80",  # half a key
    ],
)
def test_truncated_messages(message):
    with pytest.raises(ValueError, match="expected .* at byte .*found"):
        list(fields(message))
    with pytest.raises(ValueError, match="expected .* at byte .*found"):
        list(fields(memoryview(message)))


@pytest.mark.parametrize("message", [b"\x0b", b"\x0c", b"\x0f", b"\x00\x01", b"\x02\x00"])
def test_what_is_no_message(message):
    with pytest.raises(ValueError, match="found number . of wire type"):
        list(fields(message))


@pytest.mark.parametrize("number", [b"\xff" * 11, b"\xff" * 9 + b"\x7f"])
def test_a_number_of_more_than_64_bits(number):
    with pytest.raises(ValueError, match="a whole number at byte 0"):
        varint(number, 0)


def test_a_packed_list_that_ends_within_a_number():
    with pytest.raises(ValueError, match="a whole number at byte 1 of 2"):
        varints(b"\x01\x80")
