"""The command `v2w prepare`: killed and continued, in any number of processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.lerobot_folders import Recorded, actions, write_lerobot
from tests.world_models.data.recorded import make_episode
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.scripts import cli
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.data.prepared import open_prepared

EPISODES = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of episodes as `v2w collect` records them."""
    folder = tmp_path_factory.mktemp("recorded")
    for number in range(EPISODES):
        episode = make_episode(number, 12)
        recorded = LabelledEpisode(
            frames=episode.frames[:],
            actions=episode.actions,
            expert_actions=episode.actions,
            success=episode.success,
            robot="standin_sawyer",
            task="open_drawer",
            instruction="open drawer",
            behaviour="expert",
            seed=number,
        )
        save_labelled(folder / f"episode_{number:08d}.npz", recorded)
    return folder


def words(source: Path, output: Path, workers: int) -> list[str]:
    """Return the words of the command; each data file holds one episode."""
    given = f"robot=standin_sawyer file_mb=0.1 workers={workers}"
    return ["prepare", str(source), str(output), *given.split()]


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_killed_run_continues_and_any_number_of_processes_writes_the_same_bytes(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words(source, tmp_path / "whole", 1)) == 0
    assert f"episodes     {EPISODES} of {EPISODES}" in capsys.readouterr().out
    command = [sys.executable, "-m", "v2w_gym.scripts.cli"]
    with subprocess.Popen([*command, *words(source, tmp_path / "killed", 2)]) as process:
        while not (tmp_path / "killed/parts/part-000002.json").exists():
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed/v2w.json").exists()
    assert cli.main(words(source, tmp_path / "killed", 1)) == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    data = open_prepared(tmp_path / "killed")
    assert len(data) == EPISODES
    for number in (0, EPISODES - 1):
        expected, found = make_episode(number, 12), data.episode(number)
        np.testing.assert_array_equal(found.frames[:], expected.frames)
        np.testing.assert_array_equal(found.actions, expected.actions)
        assert (found.task, found.instruction) == ("open_drawer", "open drawer")


def test_a_worker_that_is_killed_ends_the_command_with_one_line(
    source: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "v2w_gym.scripts.cli", *words(source, tmp_path / "out", 2)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (children := children_of(process.pid)):
            time.sleep(0.002)
        os.kill(children[-1], signal.SIGKILL)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == 2
    assert "one was ended, perhaps for lack of memory" in errors
    assert "Traceback" not in errors


def children_of(pid: int) -> list[int]:
    """Return the worker processes of a process."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"spawn_main" in command:
            found.append(int(child))
    return found


def test_a_file_that_was_cut_off_is_left_out_and_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    damaged = folder / "episode_00000003.npz"
    damaged.write_bytes(damaged.read_bytes()[:20_000])
    assert cli.main(words(folder, tmp_path / "out", 1)) == 0
    printed = capsys.readouterr().out
    assert f"episodes     {EPISODES - 1} of {EPISODES}" in printed
    assert "left out     1 episode for this reason: damaged" in printed
    assert "episode_00000003" in printed


def test_a_source_that_is_not_there_or_has_another_robot_ends_with_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["prepare", str(tmp_path / "none"), str(tmp_path / "out"), "robot=x"]) == 2
    robot = ["robot=google_robot", "workers=1"]
    assert cli.main(["prepare", str(source), str(tmp_path / "out"), *robot]) == 2
    error = capsys.readouterr().err
    assert "expected an episode of robot 'google_robot', found one of 'standin_sawyer'" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["image", "video"])
def test_a_lerobot_data_set_takes_the_robots_fields_units_and_size(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = Recorded("v3.0", kind)
    folder = write_lerobot(tmp_path / "lerobot", recorded)
    (tmp_path / "mine.yaml").write_text("actions:\n  world_vector: action[0:3]\n")
    given = f"fields={tmp_path}/mine.yaml robot=standin_sawyer workers=1 fit=true rate=3"
    scale = "scale={world_vector: 0.0001}"
    arguments = ["prepare", str(folder), str(tmp_path / "out"), *given.split(), scale]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "at rest      rotation_delta" in printed
    data = open_prepared(tmp_path / "out")
    length = recorded.episodes[1]
    expected = actions(1, length)[:-1] / 10_000
    np.testing.assert_allclose(data.actions(1)[:, STANDIN_SAWYER.slices["world_vector"]], expected)
    assert data.frames(1).shape == (length, 64, 64, 3)
    assert data.camera == "top"
    assert cli.main([*arguments[:2], str(tmp_path / "other"), *arguments[3:], "rate=10"]) == 2
    assert "expected 3 frames per second" in capsys.readouterr().err
