"""`v2w bench`: one JSON object or tables, and an exit status."""

import json

import pytest

from v2w_gym.evaluation.checks.bench import run
from v2w_gym.evaluation.checks.bench.exactness import Agreement
from v2w_gym.evaluation.checks.bench.report import Exactness, Report, Subject
from v2w_gym.scripts import cli

TINY = ["size=tiny", "window=4", "nums=[1]", "steps=[2]", "latency=1", "repeats=1"]
TINY += ["every=false", "horizon=false"]

REPORT = Report(
    "step",
    Subject("random", 10**6, (4, 8, 8), 16, "float32", "cpu", 1, "2.9"),
    Exactness(True, 1e-6, 1e-4, 1e-6, 1e-3, 35, [Agreement("window", True, 1e-6, 1e-6, True)], []),
)


def test_json_is_all_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "step", "--json", *TINY]) == 0  # every part, nothing left out
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
    assert [cell["frame_forwards"] for cell in found["cells"]] == [2 * 2 + 1, 2 * 2 + 3]
    assert all(cell["naive_frame_forwards"] == 2 * 2 * 4 for cell in found["cells"])
    assert all(0 < cell["flops"] < cell["naive_flops"] for cell in found["cells"])


def test_steps_that_are_not_exact_end_in_status_1_without_speeds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "APPROXIMATE", ())
    assert cli.main(["bench", "step", "--json", "--quick", *TINY, "semantics=[frozen]"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["exact"]["passed"] is False
    assert found["exact"]["max_relative_error"] > 1e-2
    assert found["cells"] == found["latency"] == found["horizon"] == found["memory"] == []


def test_without_json_there_are_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("v2w_gym.evaluation.checks.bench.run.run_bench", lambda cfg: REPORT)
    assert cli.main(["bench"]) == 0
    assert "exactness over 35 steps: passed" in capsys.readouterr().out


def test_a_missing_gpu_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "step", "size=full"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("v2w bench: expected device=cuda for size=full")
    assert printed.out == ""
