"""`v2w action-control` with the bundled world model."""

import json
from pathlib import Path

import pytest
import torch

from v2w_gym.scripts import cli


def test_in_the_bundled_world_every_move_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    words = ["action-control", f"output={tmp_path}", "task=open_drawer", "steps=3"]
    assert cli.main(words) == 0
    headline, *files = capsys.readouterr().out.splitlines()
    assert headline.startswith("Moves differ by ")
    assert all(Path(line.strip()).is_file() for line in files)
    difference = json.loads((tmp_path / "action_control.json").read_text())["difference"]
    assert list(difference) == ["+X", "-X", "+Y", "-Y", "+Z", "-Z"]
    assert all(difference[a][b] > 1 for a in difference for b in difference if a != b)


def test_no_steps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["action-control", f"output={tmp_path / 'run'}", "steps=0"]) == 2
    assert "expected steps >= 1, found 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
