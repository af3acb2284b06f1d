"""`scripts/install.sh`: run with a Python that only writes down its arguments."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("bash", "dirname", "cat", "cksum", "grep", "rm", "mkdir", "cp")
FAKE_PYTHON = """#!/bin/sh
echo "$*" >>calls
case "$*" in
    *ensurepip*) exit {venv_status} ;;
    "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Make a folder with what install.sh reads and a `bin` that is all of the PATH."""
    clone = tmp_path / "a clone"
    (clone / "scripts").mkdir(parents=True)
    (clone / "bin").mkdir()
    for name in ("setup.cfg", "pyproject.toml", "constraints.txt", "scripts/install.sh"):
        shutil.copy(ROOT / name, clone / name)
    for name in NEEDED:
        program = shutil.which(name)
        assert program
        (clone / "bin" / name).symlink_to(program)
    return clone


def add_python(clone: Path, name: str, venv_status: int = 0) -> None:
    path = clone / "bin" / name
    path.write_text(FAKE_PYTHON.format(venv_status=venv_status))
    path.chmod(0o755)


def install(clone: Path, *extras: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "scripts/install.sh", *extras],
        cwd=clone,
        env={"PATH": str(clone / "bin")},
        capture_output=True,
        text=True,
    )


def calls(clone: Path) -> list[str]:
    """Return the arguments of Python since the last time."""
    path = clone / "calls"
    lines = path.read_text().splitlines()
    path.unlink()
    return lines


def test_no_suitable_python_is_reported_in_one_line(clone: Path) -> None:
    run = install(clone)
    assert run.returncode == 1
    assert run.stderr.startswith("install: expected Python 3.10, 3.11 or 3.12 on the PATH")
    assert run.stderr.count("\n") == 1


def test_a_python_without_venv_says_what_to_install(clone: Path) -> None:
    add_python(clone, "python3.12", venv_status=1)
    run = install(clone)
    assert run.returncode == 1
    assert "sudo apt install python3.12-venv" in run.stderr


def test_a_python_with_venv_is_preferred_to_one_without(clone: Path) -> None:
    add_python(clone, "python3.11", venv_status=1)
    add_python(clone, "python3.10")
    assert install(clone).returncode == 0
    assert (clone / ".venv/bin/python").exists()


def test_torch_is_installed_first_and_everything_to_exact_versions(clone: Path) -> None:
    add_python(clone, "python3.11")
    run = install(clone, "standin,test")
    assert run.returncode == 0, run.stderr
    first, second = [call for call in calls(clone) if call.startswith("-m pip install")]
    assert first.startswith("-m pip install --no-compile torch==")
    assert second == "-m pip install --no-compile -e .[standin,test] -c constraints.txt"


def test_what_is_done_is_not_done_again_until_the_requirements_change(clone: Path) -> None:
    add_python(clone, "python3.11")
    install(clone)
    calls(clone)
    assert install(clone).stdout == ""
    assert not any("pip install" in call for call in calls(clone))
    with (clone / "setup.cfg").open("a") as file:
        file.write("# changed\n")
    install(clone)
    assert [call for call in calls(clone) if "-e ." in call] == [
        "-m pip install --no-compile -e . -c constraints.txt"
    ]


@pytest.mark.parametrize("path", [*ROOT.glob("scripts/*.sh")], ids=lambda p: p.name)
def test_a_shell_script_is_executable_and_parses(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)
