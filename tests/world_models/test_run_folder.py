"""Only one process runs in a folder, and only with the folder's settings."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from v2w_gym.world_models.run_folder import (
    LOCK,
    RunFolder,
    hold,
    hold_beside,
    hold_folder,
    identify_files,
    read_identity,
)

HOLDER = """
import sys
from pathlib import Path
from v2w_gym.world_models.run_folder import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the folder `run`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run"), "\x1b[31msettings"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_gets_the_name_of_the_first(holder: subprocess.Popen, tmp_path: Path):
    with (
        pytest.raises(
            BlockingIOError, match=f"found process {holder.pid} on .* since 20"
        ) as caught,
        hold_folder(tmp_path / "run"),
    ):
        pass
    assert "settings" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert (tmp_path / "run").is_dir()


def test_the_lock_dies_with_its_holder(holder: subprocess.Popen, tmp_path: Path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / LOCK).exists()
    with hold_folder(tmp_path / "run"):
        assert f"process {os.getpid()} " in (tmp_path / "run" / LOCK).read_text()
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_lock_is_free_again_after_its_block(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(KeyError), hold(tmp_path / "table.lock"):
            raise KeyError
    alone = pytest.raises(BlockingIOError, match="wait until it ends")
    with hold(tmp_path / "table.lock"), alone, hold(tmp_path / "table.lock"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with hold(tmp_path / "table.lock"):
        pass
    assert "cannot be locked (Function not implemented): start only one run" in caplog.text


def test_a_new_folder_stays_only_if_something_was_written(tmp_path: Path):
    with pytest.raises(KeyError), hold_folder(tmp_path / "run"):
        raise KeyError
    assert not (tmp_path / "run").exists()
    with hold_folder(tmp_path / "run") as folder:
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_what_is_kept_beside_a_file_goes_when_the_file_is_done(tmp_path: Path):
    with pytest.raises(KeyError), hold_beside(tmp_path / "a.safetensors") as folder:
        (folder / "state").touch()
        raise KeyError
    assert (tmp_path / "a.training" / "state").exists()
    with hold_beside(tmp_path / "a.safetensors"):
        pass
    assert not list(tmp_path.iterdir())


def test_leftovers_anywhere_in_the_folder_go(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    left = tmp_path / "deep" / f"frame.png.{process.pid}.partial"
    left.parent.mkdir()
    left.touch()
    with hold_folder(tmp_path):
        assert not left.exists()


SETTINGS = {"seed": 0, "adam": {"rate": 1e-3, "decay": 0.1}, "episodes": ("a",), "steps": None}


def test_a_folder_is_continued_by_the_same_run_alone(tmp_path: Path):
    folder = RunFolder(tmp_path / "deep" / "run", SETTINGS).begin()
    again = RunFolder(folder, dict(reversed(SETTINGS.items())))
    assert again.begin() == again.path == folder == tmp_path / "deep" / "run"
    for changed in ({**SETTINGS, "steps": 3}, {**SETTINGS, "new": 1}, {"seed": 0}):
        with pytest.raises(ValueError, match="holds another run: expected .* found .*output="):
            RunFolder(folder, changed)
    RunFolder(folder, SETTINGS)


def test_a_folder_belongs_to_nobody_until_its_run_begins(tmp_path: Path):
    RunFolder(tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()
    RunFolder(tmp_path / "run", {"seed": 3}, noted_in="config.json").begin()
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 3}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"expected a writable folder .* output="):
        RunFolder(tmp_path / "file" / "run", SETTINGS).begin()


def test_settings_that_differ_are_named_with_both_values(tmp_path: Path):
    RunFolder(tmp_path, SETTINGS).begin()
    with pytest.raises(ValueError, match=r"another run: expected seed 0, found 3; choose another"):
        RunFolder(tmp_path, {**SETTINGS, "seed": 3})
    with pytest.raises(ValueError, match=r"adam\.rate 0\.001, found 0\.1; expected adam\.decay"):
        RunFolder(tmp_path, {**SETTINGS, "adam": {"rate": 0.1, "decay": 0.0}})
    with pytest.raises(ValueError, match="expected new 'nothing', found None"):
        RunFolder(tmp_path, {**SETTINGS, "new": None})
    with pytest.raises(ValueError, match="; and 2 more; choose"):
        RunFolder(tmp_path, {**SETTINGS, **dict.fromkeys("abcdef", 1)})


def test_some_settings_may_differ_and_the_newest_are_noted(tmp_path: Path):
    RunFolder(tmp_path, SETTINGS).begin()
    other = {**SETTINGS, "steps": 8, "adam": {"rate": 0.1, "decay": 0.1}}
    RunFolder(tmp_path, {**other, "adam": None}, {"steps", "adam"})
    with pytest.raises(ValueError, match=r"expected adam\.rate"):
        RunFolder(tmp_path, other, {"steps", "adam.decay"})
    RunFolder(tmp_path, other, {"steps", "adam.rate"}).begin()
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 8


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 100])
def test_settings_that_a_crash_left_empty_are_absent(tmp_path: Path, content: bytes):
    file = tmp_path / "run.json"
    file.write_bytes(content)
    assert read_identity(file) is None
    RunFolder(tmp_path, {"seed": 0}).begin()
    assert json.loads(file.read_text()) == {"seed": 0}


def test_damaged_settings_are_named(tmp_path: Path):
    (tmp_path / "run.json").write_text('{"seed": 0, "ad')
    with pytest.raises(ValueError, match=r"run\.json, found a damaged file; delete it"):
        RunFolder(tmp_path, SETTINGS)


def test_files_are_known_by_their_content_wherever_they_lie(tmp_path: Path):
    for folder, content in (("a", b"x" * 100_000), ("b", b"x" * 100_000), ("c", b"y" * 100_000)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "episode_1.npz").write_bytes(content)
    a, b, c = (identify_files([tmp_path / name / "episode_1.npz"]) for name in "abc")
    assert a == b != c
    assert a.startswith("1 files with digest ")
    assert identify_files([tmp_path / "a" / "episode_1.npz"] * 2) != a
