"""`v2w rollout` with the bundled world model."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from v2w_gym.scripts import cli

ROOT = Path(__file__).parents[2]
WORDS = ["rollout", "task=open_drawer", "steps=14", "hold=4"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def start_and_kill(words: list[str], after: Path) -> None:
    """Run a command in a process of its own and kill it, without warning, once a file is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "v2w_gym.scripts.cli", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    while not after.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_rollout_goes_on_and_ends_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    start_and_kill([*WORDS, f"output={killed}"], killed / "frames" / "00004.png")
    assert not (killed / "rollout.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in sorted(killed.glob("frames/*.png"))[:4]}
    for output in (killed, whole):
        assert cli.main([*WORDS, f"output={output}"]) == 0
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    frames = [sorted(run.glob("frames/*.png")) for run in (killed, whole)]
    assert len(frames[0]) == 15
    for one, other in zip(*frames, strict=True):
        assert one.read_bytes() == other.read_bytes()
    for name in ("rollout.mp4", "strip.png", "actions.npy"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("14 frames, ")
    assert all(Path(line.strip()).is_file() for line in printed if not line.startswith("14"))


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("start=absent.png", "expected recorded data at absent.png, found nothing there"),
        ("actions=helt", "did you mean 'held'?"),
        ("mode=at_once", "expected mode to be one of"),
        ("preset=refrence", "did you mean 'reference'?"),
        ("sampler.stps=2", "did you mean 'steps'?"),
    ],
)
def test_impossible_settings_imagine_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert cli.main(["rollout", f"output={tmp_path / 'run'}", word]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
