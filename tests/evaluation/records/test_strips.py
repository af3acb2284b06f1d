import numpy as np
import pytest
from PIL import Image

from v2w_gym.evaluation.records.strips import (
    GAP,
    LINE,
    TILE,
    choose_columns,
    draw_grid,
    draw_pairs,
    join,
    resize,
    save_strips,
    write,
)


def plain(*values, height=64, width=64):
    """One frame of one grey level for each value."""
    return np.stack([np.full((height, width, 3), value, np.uint8) for value in values])


@pytest.mark.parametrize(
    ("length", "expected"),
    [(1, [0]), (3, [0, 1, 2]), (8, list(range(8))), (22, [0, 3, 6, 9, 12, 15, 18, 21])],
)
def test_columns_are_the_first_the_last_and_some_between(length, expected):
    assert choose_columns(length) == expected


def test_pixels_of_a_small_frame_stay_sharp_and_of_a_large_one_are_averaged():
    frame = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, 2) * 60
    assert np.array_equal(resize(frame, 4), frame.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(resize(frame.repeat(4, 0).repeat(4, 1), 2), frame)
    assert resize(np.zeros((150, 280, 3), np.uint8), 75).shape == (75, 140, 3)


def test_pictures_are_joined_with_white_between_and_around_them():
    black = np.zeros((2, 3, 3), np.uint8)
    below = join([black, black[:, :1]], axis=0)
    assert below.shape == (2 * (2 + GAP), 3, 3)
    assert np.array_equal(below[:2], black)
    assert (below[2 : 2 + GAP] == 255).all()
    assert (below[2 + GAP : 4 + GAP, 0] == 0).all()
    assert (below[2 + GAP : 4 + GAP, 1:] == 255).all()
    beside = join([black, black[:1]], axis=1)
    assert beside.shape == (2, 2 * (3 + GAP), 3)
    assert (beside[:, 3 : 3 + GAP] == 255).all()


def test_text_is_black_on_white_and_longer_text_is_wider():
    label = write("recorded")
    assert label.shape[0] == LINE
    assert label.max() == 255
    assert label.min() < 60
    assert (write("", (40, 30)) == 255).all()
    assert write("").shape[1] < write("+X").shape[1] < label.shape[1]
    assert write("one\ntwo").shape[0] == 2 * LINE


def test_a_grid_has_frames_where_row_and_column_meet():
    rows = [plain(10, 20, 30), plain(110, 120, 130)]
    picture = draw_grid(rows, ["a", "b"], ["0 s", "1 s\nup", "2 s"], "a title")
    left = write("a").shape[1] + GAP
    top = LINE + GAP + 2 * LINE + GAP
    middles = picture[top + TILE // 2 :: TILE + GAP, left + TILE // 2 :: TILE + GAP]
    assert middles[..., 0].tolist() == [[10, 20, 30], [110, 120, 130]]
    header = picture[:top]
    assert (header[:LINE].min(), header[LINE + GAP :, left:].min()) < (60, 60)
    words = [header[LINE + GAP :, left + i * (TILE + GAP) :][:, :TILE].min(axis=2) for i in (0, 1)]
    assert (words[0] < 128).any(axis=1).sum() < (words[1] < 128).any(axis=1).sum()


def test_what_belongs_to_one_grid_differs_by_its_labels_alone():
    rows = [plain(10, 20)]
    pictures = [draw_grid(rows, [label], ["0 s", "1 s"], "title") for label in ("+X", "-X")]
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize("scale", [1, 2])
def test_films_play_in_pairs_and_large_ones_are_shrunk(scale):
    size = {"height": scale * 256, "width": scale * 320}
    videos = np.stack([plain(10 * i, 10 * i + 1, **size) for i in range(1, 6)])
    film = draw_pairs(videos, ["a", "b", "c", "d", "e"])
    assert film.shape == (2, 2 * (LINE + GAP + 256 + 2 * GAP), 3 * (320 + GAP), 3)
    top, pitch = LINE + GAP + 128, LINE + GAP + 256 + 2 * GAP
    middles = film[:, top::pitch, 160 :: 320 + GAP, 0]
    assert middles[0].tolist() == [[10, 30, 50], [20, 40, 255]]
    assert middles[1].tolist() == [[11, 31, 51], [21, 41, 255]]
    assert not np.array_equal(film[0, :LINE, :320], film[0, :LINE, 324:644])


def test_strips_are_labelled_pairs(tmp_path):
    recorded, imagined = [plain(0, 50, 100)] * 2, [plain(200, 150, 100)] * 2
    save_strips(tmp_path / "open_drawer.png", recorded, imagined)
    picture = np.array(Image.open(tmp_path / "open_drawer.png"))
    left, top = write("recorded").shape[1] + GAP, 2 * (LINE + GAP)
    middles = picture[top + TILE // 2 :: TILE + GAP, left + TILE // 2 :: TILE + GAP, 0]
    assert middles.tolist() == [[0, 50, 100], [200, 150, 100]] * 2
