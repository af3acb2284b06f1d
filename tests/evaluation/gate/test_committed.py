"""The committed gate is quoted for its own world model and judge only."""

import json

from v2w_gym.evaluation.gate import committed
from v2w_gym.evaluation.gate.committed import accuracy_on_generated, gate_notes

TASK = "close_drawer"


def test_the_committed_gate_is_quoted_for_its_own_pair_only(tmp_path, monkeypatch):
    gate = {"model": "m", "judge": "j", "open_loop": [{"task": "open_drawer", "n": 7}]}
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    monkeypatch.setattr(committed, "GATE", tmp_path / "gate.json")
    assert committed.committed_gate("m", "j") == gate
    assert committed.committed_gate("m", "another") == {}
    monkeypatch.setattr(committed, "GATE", tmp_path / "none.json")
    assert committed.committed_gate("m", "j") == {}


def test_a_ranking_notes_the_failed_checks_of_the_gate():
    check = {"task": TASK, "asked": "order is kept", "found": "1 of 2", "passed": False}
    passed = {**check, "passed": True}
    [note] = gate_notes({"checks": [check, passed, {**check, "task": "open_drawer"}]}, [TASK])
    assert note.startswith("close_drawer: this world model did not pass its validation gate")
    assert "order is kept" in note and "1 of 2" in note
    assert not list(gate_notes({}, [TASK]))


def test_accuracy_on_generated_frames_is_the_judges_part_of_the_gate():
    result = {"task": TASK, "n": 3, "agreed": 2, "psnr": {"1": 30.0}, "psnr_copy": {"1": 20.0}}
    assert accuracy_on_generated({"open_loop": [result]}) == {TASK: {"n": 3, "agreed": 2}}
