"""`v2w show` on real recordings and on bad input."""

import json
import os
from pathlib import Path

import pytest

from v2w_gym.scripts.cli import main

DATA = os.environ.get("V2W_TEST_DATA", "")
BRIDGE = f"{DATA}/bridge_rlds/bridge_dataset/1.0.0"
needs_data = pytest.mark.skipif(not DATA, reason="V2W_TEST_DATA names no real recordings")


@needs_data
def test_bridge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", BRIDGE, f"output={tmp_path}", "episodes=9", "pictured=2"]) == 0
    printed = capsys.readouterr().out
    assert (
        "bridge_dataset 1.0.0, train: 25 episodes; 9 of them, evenly spread, were read" in printed
    )
    assert "bounds of robot widowx" in printed
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["film.mp4", "strip.png"]


@needs_data
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{BRIDGE}:val", "pictured=0", "episodes=6", "json=true"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["read"], found["robot"], found["pictures"]) == (6, "widowx", [])
    assert found["alignment"]["shift"] is None


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["/nowhere/at/all"], "expected recorded data at /nowhere/at/all, found nothing there"),
        ([], "source"),
        (["robot=sawyer", "."], "did you mean 'standin_sawyer'?"),
        (["episodes=0", "."], "expected episodes >= 1, found 0"),
        (["pictured=-1", "."], "expected pictured >= 0, found -1"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("v2w show: ")
    assert error.count("\n") == 1
    assert reason in error
