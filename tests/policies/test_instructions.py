import numpy as np
import pytest

from policies.instructions import embed, make_table, normalise


def test_case_punctuation_and_spacing_do_not_matter():
    assert normalise("  Close THE drawer!\n") == "close the drawer"


def test_vectors_have_unit_length_and_tell_instructions_apart():
    close, open_ = embed("close the drawer", 64), embed("open the drawer", 64)
    assert np.linalg.norm(close) == pytest.approx(1, abs=1e-6)
    assert abs(close @ open_) < 0.5


def test_vector_depends_on_the_text_alone():
    # Recorded once: a change here would silently break every trained checkpoint's meaning.
    assert embed("close the drawer", 4) == pytest.approx(RECORDED, abs=1e-6)


def test_table_finds_rows_by_meaning_of_the_spelling():
    table = make_table(["open the drawer", "Close the drawer.", "close the drawer"], 8)
    assert table.texts == ("close the drawer", "open the drawer")
    assert table.row("OPEN the drawer") == 1


def test_unknown_instruction_suggests_the_nearest():
    table = make_table(["close the drawer", "open the drawer"], 8)
    with pytest.raises(ValueError, match="did you mean 'close the drawer'"):
        table.row("close the draw")


RECORDED = [-0.0818990021944046, -0.32701900601387024, 0.3557420074939728, 0.8716639876365662]
