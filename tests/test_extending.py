"""`docs/extending.md` works: each diff applies to the sources, and each program runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ("configs", "evaluation", "policies", "scripts", "v2w_gym", "world_models")
SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(diff|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))


def copy_sources(folder: Path) -> None:
    """Copy the package; weights are linked, for they are large and no diff changes them."""

    def lists(place: str, names: list[str]) -> set[str]:
        return {name for name in names if name in ("__pycache__", "weights", "reference")}

    for name in PACKAGE:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=lists)
        for large in (*(ROOT / name).glob("weights"), *(ROOT / name).glob("reference")):
            (folder / name / large.name).symlink_to(large)


def run(*words: str, folder: Path, **given: str) -> None:
    found = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **given},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_a_lab_changes_first_is_shown() -> None:
    assert [title.split()[-1] for title in SECTIONS] == [
        "sampler",
        "robot",
        "judge",
        "task",
        "model",
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the diffs")
@pytest.mark.parametrize("title", SECTIONS)
def test_an_extension_works(title: str, tmp_path: Path) -> None:
    (_, diff), (_, program) = BLOCK.findall(SECTIONS[title])
    assert len(re.findall(r"^diff --git", diff, re.MULTILINE)) <= 2
    sources, elsewhere = tmp_path / "sources", tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy_sources(sources)
    (sources / "it.diff").write_text(diff, encoding="utf-8")
    run("git", "apply", "it.diff", folder=sources, GIT_CEILING_DIRECTORIES=str(tmp_path))
    run(sys.executable, "-c", program, folder=elsewhere, PYTHONPATH=str(sources))
