"""Frames are resized as a policy's authors did, to the last bit."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.configs.policies import ProcessingConfig
from v2w_gym.policies.processing.images import (
    RESIZES,
    bilinear,
    bilinear_trunc,
    check_bars,
    crop_bars,
    lanczos3,
    preprocess_frames,
    resize_with_pad,
)

PLAIN = ProcessingConfig()
TENSORFLOW = """
import sys
import numpy as np, tensorflow as tf
given = np.load(sys.argv[1])
found = {}
for name in given["names"]:
    frames, size = given[f"{name}_frames"], tuple(given[f"{name}_size"])
    plain = tf.image.resize(frames, size)
    found[f"{name}_bilinear"] = tf.cast(tf.clip_by_value(tf.round(plain), 0, 255), tf.uint8)
    padded = tf.image.resize_with_pad(frames, target_height=size[0], target_width=size[1])
    found[f"{name}_bilinear_trunc"] = tf.cast(plain, tf.uint8)
    found[f"{name}_padded"] = tf.cast(padded, tf.uint8)
    sharp = tf.image.resize(frames, size, method="lanczos3", antialias=True)
    found[f"{name}_lanczos3"] = tf.cast(tf.clip_by_value(tf.round(sharp), 0, 255), tf.uint8)
np.savez(sys.argv[2], **{name: value.numpy() for name, value in found.items()})
"""


def line(*values: int) -> np.ndarray:
    """One frame of one row: (1, 1, W, 3)."""
    return np.repeat(np.array(values, np.uint8)[None, None, :, None], 3, axis=3)


def pictures(size: tuple[int, int], seed: int) -> np.ndarray:
    """Two frames of flat patches with noise, which hold what photographs hold: edges and ramps."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (2, size[0] // 8 + 1, size[1] // 8 + 1, 3))
    grown = np.kron(patches, np.ones((1, 8, 8, 1)))[:, : size[0], : size[1]]
    return np.clip(grown + rng.normal(0, 6, grown.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((0, 100), (0, 25, 75, 100)),  # centres at -0.25, 0.25, 0.75, 1.25
        ((0, 10, 20, 30), (5, 25)),  # centres at 0.5 and 2.5
        ((0, 60, 0, 0, 90, 0), (60, 90)),  # centres at 1 and 4: no antialias, the others are lost
        ((0, 3), (0, 1, 2, 3)),  # 0.75 and 2.25
        ((0, 2), (0, 0, 2, 2)),  # 0.5 and 1.5: halves go to the even number
    ],
)
def test_bilinear_by_hand(given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    assert (bilinear(line(*given), (1, len(wanted))) == line(*wanted)).all()


def test_rows_are_resized_as_columns_are() -> None:
    frames = pictures((24, 40), seed=0)
    for resize in RESIZES.values():
        turned = resize(frames.swapaxes(1, 2), (30, 16)).swapaxes(1, 2).astype(int)
        # A sum in another order may fall on the other side of a half.
        assert abs(resize(frames, (16, 30)) - turned).max() <= 1


def test_padding_is_that_of_openpi() -> None:
    """As `openpi_client.image_tools.resize_with_pad` (0.1.2) gives it: 3 of 5 rows are filled."""
    row, column = np.mgrid[:6, :10]
    colours = [row * 40 + column, 255 - column * 20, row * column * 7 % 256]
    found = resize_with_pad(np.stack(colours, -1)[None].astype(np.uint8), (5, 6))[0]
    red = [
        [0, 0, 0, 0, 0, 0],
        [29, 31, 33, 34, 36, 38],
        [100, 102, 104, 105, 107, 109],
        [171, 173, 175, 176, 178, 180],
        [0, 0, 0, 0, 0, 0],
    ]
    assert found[:, :, 0].tolist() == red
    assert found[1:4, :, 1].tolist() == [[246, 215, 180, 150, 115, 84]] * 3
    assert found[2, :, 2].tolist() == [8, 35, 66, 92, 123, 150]


@pytest.mark.parametrize(
    ("found", "size", "filled"),
    [
        ((256, 320), (224, 224), (slice(22, 201), slice(0, 224))),  # 179.2 rows, 22.4 above
        ((64, 64), (224, 224), (slice(0, 224), slice(0, 224))),
        ((10, 4), (8, 9), (slice(0, 8), slice(3, 6))),  # 3.2 columns, 3 on the left
        ((500, 2), (8, 8), (slice(0, 8), slice(3, 4))),  # less than a column is one
    ],
)
def test_padding_keeps_the_aspect_ratio(
    found: tuple[int, int], size: tuple[int, int], filled: tuple[slice, slice]
) -> None:
    frames = np.full((2, *found, 3), 90, np.uint8)
    fitted = preprocess_frames(frames, size, ProcessingConfig(resize="resize_with_pad"))
    wanted = np.zeros((2, *size, 3), np.uint8)
    rows, columns = filled
    wanted[:, rows, columns] = 90
    assert (fitted == wanted).all()


def test_truncation_cuts_what_rounding_rounds() -> None:
    assert (bilinear_trunc(line(0, 3), (1, 4)) == line(0, 0, 2, 3)).all()


def test_truncation_leaves_flat_areas_as_they_are() -> None:
    """Weights that are rounded would lose a level of every flat pixel."""
    for level in (1, 77, 254, 255):
        flat = np.full((1, 37, 53, 3), level, np.uint8)
        assert (bilinear_trunc(flat, (300, 290)) == level).all()


def test_lanczos_by_its_formula() -> None:
    """Half as many columns: the kernel is twice as wide, its neighbours 1/4, 3/4, 5/4... away."""
    away = (np.arange(24) + 0.5 - 13) / 2  # the seventh of twelve columns is centred at 13
    kernel = np.where(abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0)
    values = np.random.default_rng(0).integers(0, 256, 24)
    wanted = int(np.clip(np.rint((kernel / kernel.sum()) @ values), 0, 255))
    assert (lanczos3(line(*values), (1, 12))[0, 0, 6] == wanted).all()


def test_lanczos_overshoots_no_byte() -> None:
    """A negative lobe beside an edge is 0, not 250."""
    edge = line(*[0] * 8, *[255] * 8)
    resized = lanczos3(edge, (1, 32))[0, 0, :, 0].astype(int)
    assert resized[:14].max() <= 8
    assert resized[18:].min() >= 247


@pytest.mark.parametrize("rule", RESIZES)
def test_a_frame_is_resized_the_same_alone(rule: str) -> None:
    frames = np.concatenate([pictures((48, 64), seed) for seed in range(4)])
    together = RESIZES[rule](frames, (40, 56))
    assert together.dtype == np.uint8
    alone = [RESIZES[rule](frames[[i]], (40, 56))[0] for i in range(len(frames))]
    assert (together == np.stack(alone)).all()


@pytest.mark.slow
def test_tensorflow_gives_the_same(tmp_path: Path) -> None:
    """Bilinear to the last bit; lanczos3 but for sums in another order, near a half."""
    python = os.environ.get("V2W_TF_PYTHON")
    if not python:
        pytest.skip("V2W_TF_PYTHON names no Python with TensorFlow")
    cases = {
        "rt1": ((256, 320), (300, 300)),
        "vid2world": ((320, 400), (256, 320)),
        "simpler": ((512, 640), (256, 320)),
        "camera": ((480, 640), (224, 224)),
        "standin": ((64, 64), (256, 256)),
        "odd": ((37, 53), (19, 71)),
    }
    frames = {name: pictures(sizes[0], seed) for seed, (name, sizes) in enumerate(cases.items())}
    given = {f"{name}_frames": value for name, value in frames.items()}
    given |= {f"{name}_size": np.array(sizes[1]) for name, sizes in cases.items()}
    np.savez(tmp_path / "given.npz", names=np.array(list(cases)), **given)
    command = [python, "-c", TENSORFLOW, tmp_path / "given.npz", tmp_path / "found.npz"]
    subprocess.run(command, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    found = np.load(tmp_path / "found.npz")
    for name, (_, size) in cases.items():
        for rule in ("bilinear", "bilinear_trunc"):
            assert (RESIZES[rule](frames[name], size) == found[f"{name}_{rule}"]).all(), name
        off = abs(lanczos3(frames[name], size).astype(int) - found[f"{name}_lanczos3"])
        assert off.max() <= 1
        assert off.mean() < 1e-4
    for name in ("vid2world", "simpler"):
        padded = found[f"{name}_padded"]
        assert (bilinear_trunc(frames[name], cases[name][1]) == padded).all()


def letterboxed(level: int = 0) -> np.ndarray:
    frames = np.full((2, 320, 512, 3), level, np.uint8)
    frames[:, :, 56:456] = pictures((320, 400), seed=1)
    return frames


def test_bars_are_cut_off() -> None:
    for level in (0, 3):  # a decoder's black is not quite 0
        assert (crop_bars(letterboxed(level)) == pictures((320, 400), seed=1)).all()


def test_frames_without_bars_are_not_cut() -> None:
    with pytest.raises(ValueError, match="320 x 512 .* found 256 x 320; use crop=none"):
        crop_bars(pictures((256, 320), seed=0))
    one_side = letterboxed()
    one_side[1, :, 456:] = 90
    with pytest.raises(ValueError, match="found a mean of 90; use crop=none"):
        check_bars(one_side, ProcessingConfig(crop="bars"))


def test_frames_of_the_right_size_are_left_alone() -> None:
    frames = pictures((256, 320), seed=0)
    assert preprocess_frames(frames, (256, 320), PLAIN) is frames
    assert preprocess_frames(frames, None, PLAIN) is frames


def test_frames_are_cropped_and_then_resized() -> None:
    cfg = ProcessingConfig(crop="bars", resize="bilinear_trunc")
    wanted = bilinear_trunc(pictures((320, 400), seed=1), (256, 320))
    assert (preprocess_frames(letterboxed(), (256, 320), cfg) == wanted).all()


def test_another_aspect_ratio_is_refused_without_stretch() -> None:
    frames = pictures((48, 64), seed=0)
    message = r"policy's 32 x 40 pixels, found 48 x 64; .*crop=bars.* stretch=true"
    with pytest.raises(ValueError, match=message):
        preprocess_frames(frames, (32, 40), PLAIN)
    stretched = preprocess_frames(frames, (32, 40), ProcessingConfig(stretch=True))
    assert (stretched == bilinear(frames, (32, 40))).all()


def test_a_pixel_more_or_less_is_no_other_aspect_ratio() -> None:
    assert preprocess_frames(pictures((100, 151), seed=0), (50, 75), PLAIN).shape == (2, 50, 75, 3)


def test_rules_have_names() -> None:
    frames = pictures((16, 16), seed=0)
    with pytest.raises(ValueError, match="did you mean 'bilinear'"):
        preprocess_frames(frames, (8, 8), ProcessingConfig(resize="bilinaer"))
    with pytest.raises(ValueError, match="expected crop to be one of"):
        preprocess_frames(frames, (8, 8), ProcessingConfig(crop="centre"))


@pytest.mark.parametrize("axis", [1, 2])
def test_bars_are_noticed(axis: int) -> None:
    frames = np.maximum(pictures((100, 100), seed=0), 9).swapaxes(1, axis)
    check_bars(frames, PLAIN)
    frames.swapaxes(1, axis)[1, :3] = 8
    check_bars(frames, PLAIN)  # one side alone is a dark edge
    frames.swapaxes(1, axis)[1, -2:] = 8
    check_bars(frames, PLAIN)  # two rows of a hundred are not bars
    frames.swapaxes(1, axis)[1, -3:] = 8
    which = "rows above and below" if axis == 1 else "columns left and right"
    with pytest.raises(ValueError, match=f"found black {which} .3 and 3 of 100 pixels.*crop=bars"):
        check_bars(frames, PLAIN)
    check_bars(frames, ProcessingConfig(crop="keep_bars"))


def test_what_is_cut_off_counts_no_longer() -> None:
    with pytest.raises(ValueError, match="columns left and right .56 and 56 of 512"):
        check_bars(letterboxed(), PLAIN)
    check_bars(letterboxed(), ProcessingConfig(crop="bars"))


def test_a_dark_frame_has_no_bars() -> None:
    check_bars(np.zeros((1, 50, 50, 3), np.uint8), PLAIN)


def test_real_frames_have_no_bars() -> None:
    data = os.environ.get("V2W_TEST_DATA")
    if not data:
        pytest.skip("V2W_TEST_DATA names no folder of recordings")
    frames = np.load(Path(data) / "fractal_frames" / "fractal_sample.npz")["image"]
    check_bars(frames, PLAIN)
