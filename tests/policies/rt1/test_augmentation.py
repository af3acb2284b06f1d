"""Frames are moved as in the recipe."""

import numpy as np

from v2w_gym.policies.rt1.augmentation import pad_crop, shift

RNG = np.random.default_rng(0)


def places(height: int, width: int) -> np.ndarray:
    """Return a frame whose first two channels say where a pixel was; black is nowhere."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows % 251, columns % 251, np.ones_like(rows)], axis=-1).astype(np.uint8)


def test_shift_moves_all_frames_of_a_window_alike_and_repeats_the_edge():
    picture = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    frames = np.broadcast_to(picture, (300, 2, 64, 64, 3))
    padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), mode="edge")
    allowed = {padded[y : y + 64, x : x + 64].tobytes() for y in range(5) for x in range(5)}
    moved = shift(frames, 2, np.random.default_rng(0))
    assert (moved[:, 0] == moved[:, 1]).all()
    assert {frame.tobytes() for frame in moved[:, 0]} == allowed


def test_shift_keeps_every_frame_in_its_place():
    frames = RNG.integers(0, 256, (3, 4, 8, 8, 3), np.uint8)
    assert (shift(frames, 0, np.random.default_rng(0)) == frames).all()


def offset(height: int, width: int, seed: int) -> tuple[int, int]:
    """Return by how many rows and columns a crop moved a frame; what it left must be black."""
    moved = pad_crop(places(height, width)[None, None], np.random.default_rng(seed))[0, 0]
    assert moved.shape == (height, width, 3)
    inside = moved[..., 2] > 0
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    rows, columns = (int(at) for at in (top, left) - moved[top, left, :2].astype(int))
    assert (bottom - top, right - left) == (height - 1 - abs(rows), width - 1 - abs(columns))
    return rows, columns


def test_the_published_crop_starts_at_row_0_to_40_and_column_0_to_100():
    rows, columns = zip(*(offset(256, 320, seed) for seed in range(1000)), strict=True)
    assert set(rows) == set(range(-20, 21))
    assert set(columns) == set(range(-50, 51))


def test_the_border_grows_with_the_frame():
    rows, columns = zip(*(offset(512, 640, seed) for seed in range(100)), strict=True)
    assert 35 < max(rows) <= 40
    assert 90 < max(columns) <= 100


def test_the_published_crop_moves_the_whole_batch_alike():
    frames = np.broadcast_to(places(64, 80), (4, 6, 64, 80, 3))
    moved = pad_crop(frames, np.random.default_rng(3))
    assert (moved == moved[0, 0]).all()
    assert not (moved == frames).all()
