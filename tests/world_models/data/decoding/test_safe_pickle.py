"""Pickle files: arrays are read, and whatever would call something is refused."""

import os
import pickle

import numpy as np
import pytest

from v2w_gym.world_models.data.decoding.safe_pickle import load_pickle

CONTENT = {
    "position": np.random.default_rng(0).normal(size=(3, 2)),
    "yaw": np.asfortranarray(np.ones((2, 3), np.float32)),
    "items": [("a", np.int64(3), 4.5, None, True), {}],
    "names": np.array(["ab", "c"]),
    "bytes": b"\xff\x00",
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(CONTENT, protocol))
    found = load_pickle(tmp_path / "a.pkl")
    assert found.keys() == CONTENT.keys()
    assert found["items"] == CONTENT["items"] and found["bytes"] == CONTENT["bytes"]
    for name in ("position", "yaw", "names"):
        np.testing.assert_array_equal(found[name], CONTENT[name])


def test_names_of_numpy_1(tmp_path):
    content = pickle.dumps(CONTENT["position"], 2).replace(b"numpy._core.", b"numpy.core.")
    (tmp_path / "a.pkl").write_bytes(content)
    np.testing.assert_array_equal(load_pickle(tmp_path / "a.pkl"), CONTENT["position"])


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, call, *args):
        self.call, self.args = call, args

    def __reduce__(self):
        return self.call, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [os.system, eval, np.load, getattr])
def test_a_hostile_file_runs_nothing(tmp_path, protocol, call):
    mark = tmp_path / "mark"
    hostile = Hostile(call, f"open({str(mark)!r}, 'w')" if call is eval else f"touch {mark}")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"position": [hostile]}, protocol))
    with pytest.raises(ValueError, match="cannot be loaded safely: .*no array and no plain"):
        load_pickle(tmp_path / "a.pkl")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "pickle exhausted|Ran out|no STOP|EOF"),
        (b"hello", "pickle exhausted"),
        (pickle.dumps(CONTENT)[:-20], "exhausted|truncated|expected .* bytes"),
        (b"N" + b"r\xff\xff\xff\x7f" + b".", "place 2,147,483,647 of the memo in 7 bytes"),
        (b"c_codecs\nencode\n(Vab\nVzip\ntR.", "encoding 'zip', not latin1"),
        (b"cnumpy\nndarray\n(I-1\ntR.", "negative"),
        (b"cnumpy\ndtype.mro\n.", "no array and no plain"),
    ],
)
def test_damaged_files(tmp_path, content, text):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=text):
        load_pickle(tmp_path / "a.pkl")
