"""Pixels to tensors and back, the canvas of the published models, and checks of inputs."""

import numpy as np
import pytest
import torch
from PIL import Image

from v2w_gym.configs.model import GeometryConfig
from v2w_gym.configs.robots import CSGO_PLAYER, GOOGLE_ROBOT, RECON_JACKAL, STANDIN_SAWYER
from v2w_gym.world_models.frames import (
    check_clip,
    check_context,
    check_frames,
    fit,
    from_canvas,
    place_on_canvas,
    to_canvas,
    to_tensor,
    to_uint8,
)

RT1 = GeometryConfig(resized=(320, 400))
CSGO = GeometryConfig(resized=(275, 512))
RECON = GeometryConfig(resized=(320, 320))
EACH_GEOMETRY = pytest.mark.parametrize(
    ("geometry", "robot", "bars"),
    [
        (RT1, GOOGLE_ROBOT, (56, 56, 0, 0)),
        (CSGO, CSGO_PLAYER, (0, 0, 22, 23)),
        (RECON, RECON_JACKAL, (96, 96, 0, 0)),
    ],
    ids=["rt1", "csgo", "recon"],
)


def smooth(height, width):
    """A picture (1, 3, H, W) without detail that resizing could lose."""
    y = torch.linspace(-0.8, 0.8, height)[:, None].expand(height, width)
    x = torch.linspace(-0.5, 0.5, width)[None].expand(height, width)
    return torch.stack([y, x, 0.5 * (x - y)])[None]


def test_every_grey_level_comes_back():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    tensor = to_tensor(levels)
    assert tensor.shape == (1, 3, 16, 16)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(tensor), levels)


@EACH_GEOMETRY
def test_frames_on_the_canvas_in_grey_levels_are_within_one_level(geometry, robot, bars):
    noise = np.random.default_rng(0).integers(0, 256, (2, *robot.frame_size, 3), np.uint8)
    placed = np.full((2, *geometry.canvas, 3), 7, np.uint8)
    place_on_canvas(noise, geometry, placed)
    exact = to_uint8(to_canvas(to_tensor(noise), geometry))
    assert placed.shape == exact.shape == (2, *geometry.canvas, 3)
    assert np.abs(placed.astype(int) - exact).max() <= 1
    left, right, top, bottom = bars
    height, width = geometry.canvas
    inside = placed[:, top : height - bottom, left : width - right]
    assert placed.sum(dtype=int) == inside.sum(dtype=int)


def test_values_beyond_the_range_are_cut():
    assert to_uint8(torch.tensor([-1.5, 0.0, 1.5]).reshape(3, 1, 1)).tolist() == [[[0, 128, 255]]]


@EACH_GEOMETRY
def test_the_canvas_has_the_published_bars(geometry, robot, bars):
    left, right, top, bottom = bars
    canvas = to_canvas(torch.full((2, 3, *robot.frame_size), 0.25), geometry)
    assert canvas.shape == (2, 3, 320, 512)
    inside = canvas[:, :, top : 320 - bottom, left : 512 - right]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.25))
    assert (canvas == -1).sum() == canvas.numel() - inside.numel()


@EACH_GEOMETRY
def test_from_canvas_undoes_to_canvas(geometry, robot, bars):
    picture = smooth(*robot.frame_size)
    back = from_canvas(to_canvas(picture, geometry), geometry, robot.frame_size)
    assert back.shape == picture.shape
    torch.testing.assert_close(back, picture, atol=0.01, rtol=0)


@EACH_GEOMETRY
def test_the_picture_on_the_canvas_is_resized_as_pillow_does(geometry, robot, bars):
    left, _, top, _ = bars
    pixels = np.random.default_rng(0).uniform(-1, 1, robot.frame_size).astype(np.float32)
    height, width = geometry.resized
    expected = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    canvas = to_canvas(torch.from_numpy(pixels).expand(1, 3, -1, -1), geometry)
    inside = canvas[0, 0, top : top + height, left : left + width].numpy()
    np.testing.assert_allclose(inside, np.asarray(expected), atol=5e-5)


def test_bars_do_not_bleed_into_the_picture():
    canvas = torch.full((1, 3, 320, 512), -1.0)
    canvas[..., 22:297, :] = 0.5
    frames = from_canvas(canvas, CSGO, (150, 280))
    torch.testing.assert_close(frames, torch.full_like(frames, 0.5))


def test_a_frame_that_has_the_size_already_is_not_touched():
    picture = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    geometry = GeometryConfig(resized=(5, 6), canvas=(8, 6))
    canvas = to_canvas(picture, geometry)
    assert torch.equal(canvas[:, :, 1:6], picture)
    assert torch.equal(from_canvas(canvas, geometry, (5, 6)), picture)


def test_halving_a_picture_is_antialiased():
    stripes = torch.tensor([-1.0, 1.0]).repeat(64).expand(1, 3, 8, 128)
    small = to_canvas(stripes, GeometryConfig(resized=(4, 64), canvas=(4, 64)))
    assert small[..., 2:-2].abs().max() < 0.01  # every second column alone would be all -1 or 1


@pytest.mark.parametrize("shape", [(30, 64), (60, 20), (28, 28)])
def test_fit_cuts_around_the_centre(shape):
    """A white square in the centre of black stays square and in the centre."""
    height, width = shape
    frames = np.zeros((2, height, width, 3), np.uint8)
    frames[:, height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] = 255
    white = fit(frames, (40, 80))[0, ..., 0] > 127
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    assert abs(len(rows) - len(columns)) <= 1
    assert rows[0] + rows[-1] + 1 == 40 and columns[0] + columns[-1] + 1 == 80
    scale = max(40 / height, 80 / width)
    assert abs(len(rows) - 8 * scale) <= 1


def test_fit_leaves_what_fits():
    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), np.uint8)
    np.testing.assert_array_equal(fit(frames, (12, 16)), frames)
    np.testing.assert_array_equal(fit(frames, (8, 16)), frames[:, 2:10])
    np.testing.assert_array_equal(fit(frames, (12, 4)), frames[:, :, 6:10])


def context(count=2, batch=1, robot=STANDIN_SAWYER):
    frames = np.zeros((batch, count, *robot.frame_size, 3), np.uint8)
    return frames, np.tile(robot.make_action(), (batch, count - 1, 1))


def test_a_context_that_fits_comes_back():
    frames, actions = context(3, batch=2)
    actions[1, 0] = np.nan  # not known
    checked = check_context(frames, actions, STANDIN_SAWYER, window=4)
    assert checked[0] is frames
    np.testing.assert_array_equal(checked[1], actions)


def test_a_rounding_error_of_a_known_action_is_removed():
    frames, actions = context(2)
    reach = STANDIN_SAWYER.slices["world_vector"]
    actions[0, 0, reach] = 0.0500001
    checked = check_context(frames, actions, STANDIN_SAWYER, window=4)[1]
    assert (checked[0, 0, reach] == np.float32(0.05)).all() and actions[0, 0, reach][0] > 0.05


@pytest.mark.parametrize("count", [0, 4])
def test_a_context_leaves_room_for_a_new_frame(count):
    frames = np.zeros((1, count, 64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"expected 1 to 3 frames .* found shape \(1, \d, 64"):
        check_context(frames, np.zeros((1, 0, 13), np.float32), STANDIN_SAWYER, window=4)


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (np.zeros((1, 2, 13)), r"shape \(1, 1, 13\).*'standin_sawyer', found \(1, 2, 13\)"),
        (np.zeros((2, 1, 13)), r"shape \(1, 1, 13\)"),
        (np.zeros((1, 1, 3)), r"shape \(1, 1, 13\)"),
        (np.full((1, 1, 13), 2.0), "found 2 in row 0"),
        (np.array([[[np.nan] + [0] * 12]]), "found nan in row 0"),
    ],
)
def test_actions_of_a_context_are_checked(actions, text):
    with pytest.raises(ValueError, match=text):
        check_context(context(2)[0], actions.astype(np.float32), STANDIN_SAWYER, window=4)


def test_frames_of_a_context_are_checked():
    frames, actions = context(2, robot=CSGO_PLAYER)
    with pytest.raises(ValueError, match=r"\(N, 64, 64, 3\).*found uint8 \(2, 150, 280, 3\)"):
        check_context(frames, actions, STANDIN_SAWYER, window=4)


def test_a_clip_that_fits_comes_back():
    frames, actions = context(4, robot=RECON_JACKAL)
    checked = check_clip(frames[:, 0], actions, RECON_JACKAL, window=4)
    assert checked[0].shape == (1, 480, 640, 3)
    np.testing.assert_array_equal(checked[1], actions)


@pytest.mark.parametrize("steps", [0, 4])
def test_a_clip_is_no_longer_than_the_window(steps):
    actions = np.zeros((1, steps, 3), np.float32)
    with pytest.raises(ValueError, match=r"expected 1 to 3 actions .* found shape \(1, \d, 3\)"):
        check_clip(np.zeros((1, 480, 640, 3), np.uint8), actions, RECON_JACKAL, window=4)


def test_a_clip_has_one_row_of_actions_per_frame():
    with pytest.raises(ValueError, match=r"shape \(2, 1, 13\).*found \(1, 1, 13\)"):
        check_clip(np.zeros((2, 64, 64, 3), np.uint8), context(2)[1], STANDIN_SAWYER, window=4)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((1, 32, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.float32),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 4), np.uint8),
    ],
    ids=lambda bad: f"{bad.dtype}-{bad.shape}",
)
def test_frames_of_another_size_or_type_are_refused(bad):
    with pytest.raises(ValueError, match=r"expected uint8 frames of shape \(N, 64, 64, 3\)"):
        check_frames(bad, STANDIN_SAWYER)
