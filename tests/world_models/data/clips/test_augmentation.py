"""Changes of a clip: the same as a plain pipeline of Pillow's, and the same for all frames."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from v2w_gym.configs.clips import AugmentationConfig
from v2w_gym.world_models.data.clips.augmentation import (
    Augmentation,
    augment,
    draw_augmentation,
    shift,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (3, 20, 30, 3), np.uint8)
SMOOTH = np.stack(
    [np.asarray(Image.fromarray(frame[:4, :5]).resize((30, 20), 3)) for frame in NOISE]
)
STRONG = AugmentationConfig(shift=5, brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5)


def plain(frames, drawn):
    """Change frames as torchvision does: pad and crop, then one function of Pillow's each."""
    most = max(abs(drawn.down), abs(drawn.right))
    edges = ((0, 0), (most, most), (most, most), (0, 0))
    padded = np.pad(frames, edges, mode="reflect")
    top, left = most - drawn.down, most - drawn.right
    height, width = frames.shape[1:3]
    out = []
    for frame in padded[:, top : top + height, left : left + width]:
        image = Image.fromarray(frame)
        image = ImageEnhance.Brightness(image).enhance(drawn.brightness)
        image = ImageEnhance.Contrast(image).enhance(drawn.contrast)
        image = ImageEnhance.Color(image).enhance(drawn.saturation)
        hue, saturation, value = image.convert("HSV").split()
        turned = np.asarray(hue) + np.int32(drawn.hue * 255).astype(np.uint8)
        parts = (Image.fromarray(turned), saturation, value)
        out.append(np.asarray(Image.merge("HSV", parts).convert("RGB")))
    return np.stack(out)


@pytest.mark.parametrize("frames", [NOISE, SMOOTH], ids=["noise", "smooth"])
@pytest.mark.parametrize("cfg", [AugmentationConfig(), STRONG], ids=["published", "strong"])
def test_every_value_equals_a_plain_pipeline(frames, cfg):
    for _ in range(20):
        drawn = draw_augmentation(cfg, RNG)
        np.testing.assert_array_equal(augment(frames, drawn), plain(frames, drawn))


def test_nothing_drawn_is_nothing_changed():
    off = AugmentationConfig(shift=0, brightness=0, contrast=0, saturation=0, hue=0)
    assert draw_augmentation(off, RNG) == Augmentation()
    np.testing.assert_array_equal(augment(NOISE, Augmentation()), NOISE)


def test_draws_cover_the_published_range():
    draws = [draw_augmentation(AugmentationConfig(), RNG) for _ in range(500)]
    assert {d.down for d in draws} == {d.right for d in draws} == {-2, -1, 0, 1, 2}
    for name, low, high in (
        *((name, 0.9, 1.1) for name in ("brightness", "contrast", "saturation")),
        ("hue", -0.05, 0.05),
    ):
        values = [getattr(d, name) for d in draws]
        assert low <= min(values) < low + 0.01 and high - 0.01 < max(values) <= high


def test_a_shift_moves_the_picture_and_mirrors_the_edge():
    row = np.arange(6, dtype=np.uint8)[None, None, :, None] * np.ones((1, 3, 1, 3), np.uint8)
    assert shift(row, 0, 2)[0, 0, :, 0].tolist() == [2, 1, 0, 1, 2, 3]
    assert shift(row, 1, -2)[0, 0, :, 0].tolist() == [2, 3, 4, 5, 4, 3]


def test_equal_frames_stay_equal():
    still = np.repeat(SMOOTH[:1], 3, axis=0)
    changed = augment(still, draw_augmentation(AugmentationConfig(), RNG))
    assert (changed == changed[:1]).all() and (changed != still).any()
