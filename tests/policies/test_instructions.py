"""Tables of instructions: how they are made, searched, written and read."""

import json

import numpy as np
import pytest

from v2w_gym.policies.instructions import (
    InstructionTable,
    embed,
    load_table,
    make_table,
    normalise,
    save_table,
)


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


def test_of_many_instructions_three_are_suggested():
    table = make_table([f"pick object {number}" for number in range(600)], 8)
    with pytest.raises(ValueError) as error:
        table.row("Pick object 5!!x")
    message = str(error.value)
    assert "one of the 600 instructions" in message
    assert "found 'Pick object 5!!x'; did you mean 'pick object 5' or " in message
    assert message.count("'pick object ") == 3


def test_a_table_without_texts_says_how_to_get_one():
    with pytest.raises(ValueError, match="found one without any; make a table with `v2w embed`"):
        InstructionTable((), np.zeros((0, 8), np.float32)).row("open the drawer")


def test_one_vector_for_each_text():
    with pytest.raises(ValueError, match=r"2 instructions \(2 distinct\).* shape \(3, 8\)"):
        InstructionTable(("a", "b"), np.zeros((3, 8), np.float32))
    with pytest.raises(ValueError, match=r"2 instructions \(1 distinct\)"):
        InstructionTable(("a", "a"), np.zeros((2, 8), np.float32))


def test_round_trip(tmp_path):
    path = tmp_path / "known.safetensors"
    table = make_table(["close the drawer", "öffne die lade"], 8)
    save_table(path, table, {"dataset": "by hand"})
    found = load_table(path)
    assert found.texts == table.texts
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, table.vectors)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["kind"] == "instructions"
    assert (card["size"], card["source"]) == (8, {"dataset": "by hand"})


def test_files_that_are_no_tables(tmp_path):
    path = tmp_path / "known.safetensors"
    with pytest.raises(FileNotFoundError, match="found no known.safetensors"):
        load_table(path)
    save_table(path, make_table(["a", "b"], 8), {})
    card = path.with_suffix(".json")
    written = json.loads(card.read_text())
    card.write_text(json.dumps({**written, "kind": "rt1"}))
    with pytest.raises(ValueError, match="expected a instructions checkpoint .*found 'rt1'"):
        load_table(path)
    card.write_text(json.dumps({**written, "texts": ["a"]}))
    with pytest.raises(
        ValueError, match="instruction table in .*known.safetensors, found.*1 instr"
    ):
        load_table(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="sha256"):
        load_table(path)
    for wrong in (np.nan, 2):
        vectors = np.eye(2, dtype=np.float32) * np.float32([[1], [wrong]])
        save_table(path, InstructionTable(("a", "b"), vectors), {})
        with pytest.raises(ValueError, match="expected vectors of length 1 in .*safetensors"):
            load_table(path)


RECORDED = [-0.0818990021944046, -0.32701900601387024, 0.3557420074939728, 0.8716639876365662]
