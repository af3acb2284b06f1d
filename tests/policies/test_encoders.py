"""Encoding new instructions: only with the encoder that gave a table's vectors."""

import base64
import sys

import numpy as np
import pytest

from v2w_gym.policies.encoders import extend, make_encoder
from v2w_gym.policies.instructions import embed, make_table

TABLE = make_table(["close the drawer", "open the drawer"], 8)


def same_encoder(texts):
    return np.stack([embed(text, 8) for text in texts])


def test_new_texts_are_normalised_encoded_and_sorted_in():
    found = extend(TABLE, ["Lift the CUP!", "open the drawer", "lift the cup"], same_encoder, 0.999)
    assert found.texts == ("close the drawer", "lift the cup", "open the drawer")
    for text in found.texts:
        np.testing.assert_array_equal(found.vectors[found.row(text)], embed(text, 8))


def test_nothing_new():
    assert extend(TABLE, ["Open the drawer."], same_encoder, 0.999) is TABLE


def test_another_encoder_is_refused():
    with pytest.raises(ValueError, match="at least 0.999.*found 0.9[0-9]* for '.* the drawer'"):
        extend(TABLE, ["lift"], lambda texts: tilted(same_encoder(texts)), 0.999)
    with pytest.raises(ValueError, match="vectors of 8 values .*found an encoder of 4"):
        extend(TABLE, ["lift"], lambda texts: np.ones((len(texts), 4), np.float32) / 2, 0.999)


def tilted(vectors):
    turned = vectors + 0.1 * np.roll(vectors, 1, axis=1)
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="at least one word"):
        extend(TABLE, ["..."], same_encoder, 0.999)


def test_unknown_encoders(tmp_path):
    with pytest.raises(ValueError, match="encoder=onnx:PATH.*found 'use'"):
        make_encoder("use")
    with pytest.raises(FileNotFoundError, match="an ONNX model at .*none.onnx, found none"):
        make_encoder(f"onnx:{tmp_path / 'none.onnx'}")


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"no onnxruntime; run: pip install '.\[language\]'"
    ):
        make_encoder(f"onnx:{path}")


# Strings to rows of the unit matrix: "pick coke can" to row 0, "place apple" to row 1, others to
# row 2; a LabelEncoder and a Gather.
MODEL = base64.b64decode(
    "CAg6lQIKhAEKBmlucHV0cxIDaWR4IgxMYWJlbEVuY29kZXIqFAoNZGVmYXVsdF9pbnQ2NBgCoAECKi0KDGtleXNfc3"
    "RyaW5nc0oNcGljayBjb2tlIGNhbkoLcGxhY2UgYXBwbGWgAQgqFgoNdmFsdWVzX2ludDY0c0AAQAGgAQc6CmFpLm9u"
    "bngubWwKGQoBVwoDaWR4EgdvdXRwdXRzIgZHYXRoZXISAWcqOwgDCAQQASIwAACAPwAAAAAAAAAAAAAAAAAAAAAAAI"
    "A/AAAAAAAAAAAAAAAAAAAAAAAAgD8AAAAAQgFXWhUKBmlucHV0cxILCgkICBIFCgMSAU5iGgoHb3V0cHV0cxIPCg0I"
    "ARIJCgMSAU4KAggEQgQKABARQg4KCmFpLm9ubngubWwQAg=="
)


@pytest.fixture
def model(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `language` is not installed")
    pytest.importorskip("onnxruntime_extensions", reason="the extra `language` is not installed")
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


def test_an_onnx_model(model):
    encode = make_encoder(f"onnx:{model}")
    found = encode(["place apple", "anything", "pick coke can"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.eye(4)[[1, 2, 0]])


def test_a_damaged_onnx_model(model):
    model.write_bytes(MODEL[:100])
    with pytest.raises(ValueError, match="an ONNX model in .*model.onnx, found"):
        make_encoder(f"onnx:{model}")
