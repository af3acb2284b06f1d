"""Contact sheets: every start is there, and no text leaves its cell."""

from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.evaluation.starts.contact_sheet import GAP, HEAD, MARGIN, WIDTH, draw_sheet
from v2w_gym.world_models.data.starts.files import Start

GREEN = np.array([0, 200, 0], np.uint8)
NONE = np.zeros((0, 7), np.float32)
START = Start("episode 1", np.broadcast_to(GREEN, (1, 32, 32, 3)), NONE, 3, 20, "push")


def is_green(pixels: np.ndarray) -> np.ndarray:
    return (pixels == GREEN).all(axis=-1)


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (9, 4), (30, 7)])
def test_starts_lie_in_rows_from_left_to_right(count: int, columns: int) -> None:
    sheet = draw_sheet([START] * count, "title", "subtitle")
    middle = is_green(sheet[HEAD + WIDTH // 2])
    assert middle.sum() == columns * WIDTH
    for column in range(columns):
        left = MARGIN + column * (WIDTH + GAP)
        assert middle[left : left + WIDTH].all()
    assert is_green(sheet).sum() == count * WIDTH**2


def test_a_wide_frame_keeps_its_shape() -> None:
    wide = replace(START, frames=np.broadcast_to(GREEN, (1, 150, 280, 3)))
    rows, columns = np.nonzero(is_green(draw_sheet([wide], "title", "")))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (144, 269)


def test_of_many_starts_the_first_are_shown_and_the_others_counted() -> None:
    some, more = (draw_sheet([START] * n, f"{n} starts", "") for n in (100, 130))
    assert is_green(more).sum() == 100 * WIDTH**2
    np.testing.assert_array_equal(some[HEAD:], more[HEAD:])
    assert (some[:HEAD] != more[:HEAD]).any()


@pytest.mark.parametrize("word", ["drawer " * 60, "d" * 400, "schließe die Schublade", "关上抽屉"])
def test_long_texts_stay_in_their_cells(word: str) -> None:
    starts = [replace(START, id=word, instruction=word), replace(START, id="", instruction=None)]
    sheet = draw_sheet(starts, "title", "subtitle")
    assert sheet.shape[1] == 2 * (MARGIN + WIDTH) + GAP
    gap = sheet[HEAD:, MARGIN + WIDTH : MARGIN + WIDTH + GAP]
    assert (gap == 255).all()


def test_the_title_fits() -> None:
    sheet = draw_sheet([START], "title " * 40, "subtitle " * 90)
    assert (sheet[:, -MARGIN // 2 :] == 255).all() and (sheet[:HEAD, MARGIN:] < 255).any()
