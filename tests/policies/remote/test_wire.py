"""Messages: packing and unpacking, equal bytes to openpi's, and errors of invalid messages."""

import subprocess
from pathlib import Path

import msgpack
import numpy as np
import pytest

from v2w_gym.policies.remote.wire import MAX_ITEMS, pack, unpack

ROOT = Path(__file__).parents[3]
SAMPLE = {
    "observation/image": np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3),
    "prompt": "close the drawer",
    "actions": np.array([[0.5, -0.25], [1.0, 2.0]], np.float32),
    "seed": np.int64(2**40),
    "done": np.bool_(True),
    "rate": np.float32(0.5),
    "nested": {"list": [1, 2.5, None, "text"], "wide": np.float64(0.1)},
    "empty": np.zeros((0, 7), np.float64),
    "point": np.array(3, np.int16),
    "swapped": np.array([1, 2], ">i4"),
    "words": np.array(["a", "bc"]),
}


def assert_same(found: object, expected: object) -> None:
    if isinstance(expected, dict):
        assert isinstance(found, dict) and list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value)
    elif isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert (found == expected).all()
    else:
        assert found == expected


def test_what_is_packed_comes_back() -> None:
    assert_same(unpack(pack(SAMPLE)), SAMPLE)


def test_scalars_keep_their_type() -> None:
    # np.float64 is a Python float, so it travels as one; openpi does the same
    kinds = [type(value) for value in unpack(pack([np.float32(1), np.int8(-1), np.float64(1)]))]
    assert kinds == [np.float32, np.int8, float]


def test_an_array_is_a_map_of_its_parts() -> None:
    raw = msgpack.unpackb(pack(np.array([[1, 2]], np.uint8)))
    assert raw == {
        b"__ndarray__": True,
        b"data": b"\x01\x02",
        b"dtype": "|u1",
        b"shape": [1, 2],
    }


def test_a_slice_is_packed_in_its_own_order() -> None:
    turned = np.arange(6, dtype=np.int32).reshape(2, 3).T[::-1]
    assert_same(unpack(pack(turned)), turned)


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.zeros(1, "i4,f4"), np.array([1j]), np.complex64(1)]
)
def test_other_arrays_are_not_packed(value: object) -> None:
    with pytest.raises(ValueError, match="expected arrays of numbers or text"):
        pack({"here": value})


def test_other_objects_are_not_packed() -> None:
    with pytest.raises(TypeError, match=r"found <class 'pathlib\."):
        pack({"here": Path()})


def an_array(**changes: object) -> bytes:
    parts: dict[bytes, object] = {b"__ndarray__": True, b"data": bytes(8), b"dtype": "<f4"}
    parts |= {b"shape": [2]} | {name.encode(): value for name, value in changes.items()}
    return msgpack.packb(parts)


def a_scalar(dtype: object, data: object) -> bytes:
    return msgpack.packb({b"__npgeneric__": True, b"data": data, b"dtype": dtype})


MANY = b"\xdd" + (60 * 2**20).to_bytes(4, "big")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x81",
        pack(SAMPLE)[:-5],
        pack({}) + b"\x00",
        msgpack.packb({b"__ndarray__": True, b"data": b"", b"dtype": "|u1"}),
        msgpack.packb({b"__ndarray__": True, b"data": b"1", b"dtype": "<f4", b"shape": [1]}),
        msgpack.packb({b"__ndarray__": True, b"data": b"1", b"dtype": "|u1", b"shape": [-1]}),
        msgpack.packb({b"__ndarray__": True, b"data": bytes(8), b"dtype": "|O", b"shape": [1]}),
        msgpack.packb({b"__ndarray__": True, b"data": bytes(8), b"dtype": "nothing", b"shape": []}),
        msgpack.packb({b"__npgeneric__": True, b"data": 0, b"dtype": "|O"}),
        b"\x91" * 5000,
        MANY + b"\x80" * 60 * 2**20,  # dicts, of 64 bytes each
        b"\xdd" + (20_000).to_bytes(4, "big") + (b"\x95" + b"\xc0" * 5) * 20_000,
        (b"\xdd" + MAX_ITEMS.to_bytes(4, "big")) * 500,
        an_array(shape=[20_000_000, 7]),
        an_array(shape=[1]),
        an_array(shape=[0, 2**62]),
        an_array(shape=[2**63, 2]),
        an_array(shape=[2.0]),
        an_array(shape=[True, 2]),
        an_array(shape=None),
        an_array(shape=[1] * 70 + [2]),
        an_array(data=None),
        an_array(data="12345678"),
        an_array(dtype=None),
        an_array(dtype="f4,f4"),
        an_array(dtype="(" * 1000),
        an_array(dtype="<f3"),
        an_array(dtype="<M8[none]"),
        a_scalar("<f4", None),
        a_scalar("<f4", [1, 2]),
        a_scalar("<f4", "one"),
        a_scalar("|i1", 10**10),
        a_scalar("<M8[s]", 1),
    ],
    ids=range(35),
)
def test_what_is_not_a_message_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=f"found {len(message)} bytes that are none: .") as refused:
        unpack(message)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


def test_text_is_not_a_message() -> None:
    with pytest.raises(ValueError, match="expected a binary message, found text: 'Traceback"):
        unpack("Traceback")


@pytest.mark.slow
def test_bytes_are_those_of_the_openpi_client(tmp_path: Path, openpi_python: str) -> None:
    """Both ways, with the package `openpi-client` in an interpreter of its own."""
    (tmp_path / "ours").write_bytes(pack(SAMPLE))
    code = (
        "import sys; from pathlib import Path; from openpi_client import msgpack_numpy as m; "
        "folder = Path(sys.argv[1]); found = m.unpackb((folder / 'ours').read_bytes()); "
        "(folder / 'theirs').write_bytes(m.packb(found))"
    )
    subprocess.run([openpi_python, "-c", code, str(tmp_path)], check=True)
    theirs = (tmp_path / "theirs").read_bytes()
    assert theirs == pack(SAMPLE)
    assert_same(unpack(theirs), SAMPLE)
