"""`v2w bench`: one JSON object or tables, and an exit status."""

import json

import pytest

from evaluation.bench import run
from scripts import cli

TINY = ["size=tiny", "window=4", "nums=[1]", "steps=[2]", "latency=1", "repeats=1", "horizon=false"]


def test_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "step", "--json", *TINY]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["what"] == "step"
    assert found["exact"]["passed"] is True
    assert 0 < found["exact"]["max_relative_error"] <= found["exact"]["tolerance"] == 1e-4
    asked = {"num_envs", "steps", "semantics", "ratio", "frame_forwards", "env_frames_per_second"}
    assert [(cell["semantics"], cell["num_envs"], cell["steps"]) for cell in found["cells"]] == [
        ("rolling", 1, 2),
        ("window", 1, 2),
    ]
    assert all(asked <= cell.keys() for cell in found["cells"])


def test_tables_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *TINY, "semantics=[rolling]"]) == 0
    text = capsys.readouterr().out
    assert "steps with a full window" in text
    assert "latency of one environment" in text


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_steps_that_are_not_exact_end_in_status_1_without_speeds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: list[str]
) -> None:
    monkeypatch.setattr(run, "APPROXIMATE", ())
    with pytest.raises(SystemExit) as ended:
        cli.main(["bench", "step", "--quick", *flags, *TINY, "semantics=[frozen]"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "per second" not in printed
    if flags:
        found = json.loads(printed)
        assert found["exact"]["passed"] is False
        assert found["cells"] == found["latency"] == found["horizon"] == []
    else:
        assert "FAILED" in printed


def test_a_missing_gpu_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "step", "size=full"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("v2w bench: expected device=cuda for size=full")
    assert printed.out == ""
