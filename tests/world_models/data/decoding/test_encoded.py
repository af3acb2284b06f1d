"""Stored pictures: both decoders give the same pixels."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from v2w_gym.world_models.data.decoding.encoded import decode_into, decode_picture

SMALL = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)


def to_bytes(
    size: tuple[int, int], mode: str = "RGB", kind: str = "jpeg", **settings: int
) -> bytes:
    file = BytesIO()
    picture = Image.fromarray(SMALL).resize((64, 64)).crop((0, 0, size[1], size[0]))
    picture.convert(mode).save(file, kind, **settings)
    return file.getvalue()


@pytest.mark.parametrize("size", [(64, 64), (17, 9), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "settings", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": 1}]
)
def test_a_jpeg_has_the_pixels_of_pillow(
    size: tuple[int, int], mode: str, settings: dict[str, int]
) -> None:
    stored = to_bytes(size, mode, **settings)
    out = np.zeros((*size, 3), np.uint8)
    decode_into(stored, out)
    with Image.open(BytesIO(stored)) as expected:
        np.testing.assert_array_equal(out, np.asarray(expected.convert("RGB")))
    np.testing.assert_array_equal(out, decode_picture(stored))


def test_a_jpeg_needs_no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, out = to_bytes((64, 64)), np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr(Image, "open", None)
    decode_into(stored, out)
    assert out.any()


def test_a_png_is_exact() -> None:
    out = np.zeros((64, 64, 3), np.uint8)
    decode_into(to_bytes((64, 64), kind="png"), out)
    np.testing.assert_array_equal(out, np.asarray(Image.fromarray(SMALL).resize((64, 64))))


@pytest.mark.parametrize("shape", [(32, 64, 3), (64, 32, 3), (100, 100, 3)])
def test_another_size_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a picture of \(64, 64\) pixels, not"):
        decode_into(to_bytes((64, 64)), np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kept", [3, 100, 400])
def test_a_damaged_jpeg_is_refused(kept: int) -> None:
    with pytest.raises(ValueError, match="a damaged picture: "):
        decode_into(to_bytes((64, 64))[:kept], np.zeros((64, 64, 3), np.uint8))
