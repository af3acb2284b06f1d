"""Messages between the two processes."""

import io
import json
import struct

import numpy as np
import pytest

from v2w_gym.policies.tensorflow.framing import MAGIC, Message, read, write


def sent(message: Message) -> bytes:
    stream = io.BytesIO()
    write(stream, message)
    return stream.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
        np.arange(6, dtype=np.int32)[::2],
        np.float32(0.1),
        np.array([True, False]),
        np.zeros((0, 4), np.float64),
        np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
    ],
)
def test_an_array_arrives_as_it_was_sent(array: np.ndarray) -> None:
    found = read(io.BytesIO(sent(Message({}, {"a/b": array})))).arrays["a/b"]
    assert found.dtype == array.dtype and found.shape == np.shape(array)
    assert (found == array).all()


def test_messages_follow_each_other() -> None:
    stream = io.BytesIO()
    for number in range(3):
        write(stream, Message({"n": number}, {"x": np.full(number, number)}))
    stream.seek(0)
    for number in range(3):
        message = read(stream)
        assert message.info == {"n": number}
        assert list(message.arrays["x"]) == [number] * number
    with pytest.raises(EOFError):
        read(stream)


def test_the_bytes_are_as_documented() -> None:
    header = b'{"info": {"kind": "act"}, "arrays": [["x", "<i2", [2]]]}'
    message = Message({"kind": "act"}, {"x": np.array([1, 258], "<i2")})
    expected = b"v2w\x01" + struct.pack("<I", len(header)) + header + b"\x01\x00\x02\x01"
    assert sent(message) == expected


def test_a_truncated_message_is_no_message() -> None:
    whole = sent(Message({"kind": "act"}, {"x": np.ones(3)}))
    for length in range(len(whole)):
        with pytest.raises(EOFError):
            read(io.BytesIO(whole[:length]))


def test_text_on_the_pipe_is_no_message() -> None:
    with pytest.raises(ValueError, match=r"begins with b'v2w.*found b'I0000 00'"):
        read(io.BytesIO(b"I0000 00:00:1795278705.568967 port.cc:153] oneDNN custom operations"))


def test_another_version_of_the_bytes_is_no_message() -> None:
    with pytest.raises(ValueError, match="begins with"):
        read(io.BytesIO(b"v2w\x02" + sent(Message({}))[4:]))


def test_sizes_beyond_reason_are_refused_before_they_are_allocated() -> None:
    with pytest.raises(ValueError, match="begins with"):
        read(io.BytesIO(MAGIC + struct.pack("<I", 2**31)))
    header = json.dumps({"info": {}, "arrays": [["x", "<f8", [2**40]]]}).encode()
    with pytest.raises(ValueError, match="at most"):
        read(io.BytesIO(MAGIC + struct.pack("<I", len(header)) + header))


def test_objects_are_never_sent() -> None:
    for array in (np.array([b"text"], object), np.array(["text"])):
        stream = io.BytesIO()
        with pytest.raises(TypeError, match="expected numbers in 'x'"):
            write(stream, Message({}, {"x": array}))
        assert not stream.getvalue()


def test_objects_are_never_read() -> None:
    header = json.dumps({"info": {}, "arrays": [["x", "|O", [1]]]}).encode()
    with pytest.raises(ValueError):
        read(io.BytesIO(MAGIC + struct.pack("<I", len(header)) + header + bytes(8)))
