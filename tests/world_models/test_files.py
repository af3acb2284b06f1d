"""Files appear whole or not at all, and leftovers of dead processes are removed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from v2w_gym.world_models import files
from v2w_gym.world_models.files import HOST, remove_partials, replacing


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(folder: Path, name: str, age: float = 0.0) -> Path:
    path = folder / name
    path.write_text("half")
    written = path.stat().st_mtime - age
    os.utime(path, (written, written))
    return path


def test_a_file_is_replaced_as_a_whole(tmp_path: Path):
    path = tmp_path / "notes.json"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
        assert partial.parent == tmp_path
    assert [file.name for file in tmp_path.iterdir()] == ["notes.json"]
    assert path.read_text() == "new"


def test_what_goes_wrong_leaves_the_old_file_alone(tmp_path: Path):
    path = tmp_path / "notes.json"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert [file.name for file in tmp_path.iterdir()] == ["notes.json"]
    assert path.read_text() == "old"


def test_the_content_is_on_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda _: events.append((tmp_path / "a").exists()))
    with replacing(tmp_path / "a") as partial:
        partial.write_text("new")
    assert events == [False]


def test_two_files_that_differ_in_their_endings_are_written_at_once(tmp_path: Path):
    with replacing(tmp_path / "a.json") as one, replacing(tmp_path / "a.npz") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a.json").read_text() == "1"


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path, dead: int):
    gone = [
        leave(tmp_path, f"a.npz.{dead}@{HOST}.partial"),
        leave(tmp_path, f"a.{dead}.partial"),
        leave(tmp_path, f"a.{os.getpid()}@{HOST}.partial", age=1e6),  # of an earlier container
        leave(tmp_path, f"b.{dead}@elsewhere.partial", age=2 * files.DAY),
        leave(tmp_path, f"a.{10**30}.partial"),
    ]
    stays = [
        leave(tmp_path, f"a.npz.{os.getppid()}@{HOST}.partial"),
        leave(tmp_path, f"a.{os.getpid()}@{HOST}.partial2"),
        leave(tmp_path, f"a.{dead}@elsewhere.partial"),
        leave(tmp_path, "mine.partial"),
    ]
    remove_partials(tmp_path.iterdir())
    assert [path.name for path in gone if path.exists()] == []
    assert all(path.exists() for path in stays)


def test_writing_a_file_removes_what_a_killed_process_left_of_it(tmp_path: Path, dead: int):
    left = leave(tmp_path, f"a[1].npz.{dead}@{HOST}.partial")
    with replacing(tmp_path / "a[1].npz") as partial:
        partial.write_text("new")
    assert not left.exists()
