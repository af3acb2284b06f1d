"""What README and guides show works: Python blocks run, `v2w` lines have settings that exist,
and links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from v2w_gym.scripts import cli

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
AFTER_A_DIFF = ROOT / "docs" / "extending.md"
"""Its blocks run in `test_extending.py`, each after the diff above it."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    docs = (doc for doc in DOCS if doc != AFTER_A_DIFF)
    text = "\n".join(doc.read_text(encoding="utf-8") for doc in docs)
    return [body for found, body in BLOCK.findall(text) if found == language]


def commands() -> list[list[str]]:
    """Return the words of every `v2w` line in the bash blocks."""
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line[:1] == ["v2w"]]


def anchors(text: str) -> set[str]:
    """Return the link names of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_docs_show_code_and_commands() -> None:
    assert blocks("python")
    assert commands()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.stem)
def test_links_lead_somewhere(doc: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", doc.read_text(encoding="utf-8"))
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (doc.parent / path).resolve() if path else doc
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


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
