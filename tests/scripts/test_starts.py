"""`v2w starts` with recordings of several kinds."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.scripts import cli
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.data.starts.files import load_starts

ROOT = Path(__file__).parents[2]
TASKS = {"close_drawer": "close the drawer", "open_drawer": "open the drawer"}


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """Six episodes as `v2w collect` writes them."""
    for number in range(6):
        task = list(TASKS)[number % 2]
        path = tmp_path / "episodes" / task / f"episode_{number:08d}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        actions = np.tile(STANDIN_SAWYER.make_action(), (4, 1))
        frames = rng.integers(0, 256, (5, 64, 64, 3), np.uint8)
        own = (task, TASKS[task], "expert", number)
        save_labelled(
            path,
            LabelledEpisode(frames, actions, actions, np.zeros(5, bool), "standin_sawyer", *own),
        )
    return tmp_path / "episodes"


def run(*words: object) -> int:
    return cli.main(["starts", *map(str, words)])


def test_own_episodes(episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(episodes, tmp_path / "s.npz", "instruction=^open", "context_frames=2") == 0
    names = [str(tmp_path / f"s.{ending}") for ending in ("npz", "json", "png")]
    assert capsys.readouterr().out.split() == [*["3", "starts", "of", "standin_sawyer"], *names]
    file = load_starts(tmp_path / "s.npz")
    assert [start.id for start in file.starts] == [
        f"open_drawer/episode_{number:08d}" for number in (1, 3, 5)
    ]
    assert {(s.task, s.instruction, s.step) for s in file.starts} == {
        ("open_drawer", "open the drawer", 1)
    }


def test_the_same_bytes_with_other_surroundings(episodes: Path, tmp_path: Path) -> None:
    words = ["choose=random", "n=4", "seed=3", "at=random", "context_frames=2"]
    assert run(episodes, tmp_path / "here", *words) == 0
    elsewhere = {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "v2w_gym.scripts.cli", "starts", "episodes", "there.npz"]
    environment = {**os.environ, **elsewhere}
    subprocess.run([*command, *words], cwd=tmp_path, env=environment, check=True)
    for ending in ("npz", "json", "png"):
        here, there = (tmp_path / f"{name}.{ending}" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes(), ending


def test_the_order_of_the_source_does_not_matter_to_a_draw(episodes: Path, tmp_path: Path) -> None:
    for output, ids in (("a", "[]"), ("b", "[episode_00000001,episode_00000000]")):
        found = run(episodes / "open_drawer", tmp_path / output, "choose=random", f"ids={ids}")
        assert found == (0 if output == "a" else 2)


def test_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (512, 640, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "desk.png")
    assert run(tmp_path / "desk.png", tmp_path / "out") == 2
    assert "robot= to name the robot, which desk.png does not say" in capsys.readouterr().err
    assert run(tmp_path / "desk.png", tmp_path / "out", "robot=google_robot") == 2
    assert "fit=true" in capsys.readouterr().err
    assert run(tmp_path / "desk.png", tmp_path / "out", "robot=google_robot", "fit=true") == 0
    (start,) = load_starts(tmp_path / "out.npz").starts
    assert start.frames.shape == (1, *GOOGLE_ROBOT.frame_size, 3) and start.id == "desk"


def test_frames_of_a_real_rt1_episode(tmp_path: Path) -> None:
    if not (data := os.environ.get("V2W_TEST_DATA")):
        pytest.skip("set V2W_TEST_DATA to a folder with real recordings")
    source = Path(data, "fractal_frames", "fractal_sample.npz")
    words = ["robot=google_robot", "at=-1", "context_frames=3"]
    assert run(source, tmp_path / "can", *words) == 0
    (start,) = load_starts(tmp_path / "can.npz").starts
    with np.load(source) as file:
        np.testing.assert_array_equal(start.frames, file["image"][-3:])
    assert np.isnan(start.actions).all() and start.actions.shape == (2, 13)
    assert (start.step, start.length, start.instruction) == (21, 22, None)


def test_what_is_wrong_is_one_line(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(episodes, tmp_path / "out", "instruction=shut") == 2
    error = capsys.readouterr().err
    assert error.startswith("v2w starts: expected episodes whose instruction matches 'shut'")
    assert "'close the drawer' (3), 'open the drawer' (3)" in error and error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
