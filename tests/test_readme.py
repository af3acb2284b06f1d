"""What the READMEs show works: each Python block runs, each `v2w` line has settings that exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from v2w_gym.scripts import cli

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "README.md", ROOT / "policies" / "README.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    text = "\n".join(doc.read_text(encoding="utf-8") for doc in DOCS)
    return [body for found, body in BLOCK.findall(text) if found == language]


def commands() -> list[list[str]]:
    """Return the words of every `v2w` line in the bash blocks."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line[:1] == ["v2w"]]


def test_the_readmes_show_code_and_commands() -> None:
    assert blocks("python")
    assert commands()


@pytest.mark.parametrize("code", blocks("python"))
def test_a_python_block_runs(code: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_names_settings_that_exist(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    name, *settings = words
    if name in ("-h", "--help"):
        return
    command = cli.load_command(name)
    if "--help" not in settings:
        cli.read_settings(command, settings)
