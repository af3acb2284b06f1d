"""`v2w show` on recordings of several formats, and on bad input."""

import json
import os
from pathlib import Path

import pytest

from tests.evaluation.data.drawn import HAND, draw_episodes, shifted, with_actions
from v2w_gym.scripts.cli import main
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled

DATA = Path(os.environ.get("V2W_TEST_DATA", ""))
BRIDGE = f"{DATA}/bridge_rlds/bridge_dataset/1.0.0"
needs_data = pytest.mark.skipif(Path() == DATA, reason="V2W_TEST_DATA names no real recordings")


def show(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run the command, and return what it prints."""
    assert main(["show", *map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write episodes as `v2w collect` does, in millimetres and with actions one step late."""
    folder = tmp_path_factory.mktemp("own")
    for number, drawn in enumerate(draw_episodes(24)):
        episode = with_actions(shifted(drawn, 1), HAND, lambda values: values * 1000)
        path = folder / f"episode_{number:08d}.npz"
        save_labelled(
            path,
            LabelledEpisode(
                episode.frames,
                *(episode.actions, episode.actions, drawn.success[1:]),
                *(drawn.robot, "open_drawer", drawn.instruction, "drawn", number),
            ),
        )
    (folder / "episode_00000005.npz").write_bytes(b"PK damaged")
    return folder


def test_own_episodes_in_other_units_and_one_step_late(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = show(capsys, own, f"output={tmp_path}", "pictured=2")
    assert "24 episodes; 23 could be read" in printed
    assert "unreadable   episode 5:" in printed
    assert "settings     action_shift=1 scale='{world_vector: 0.001}'" in printed
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["film.mp4", "strip.png"]


def test_json(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(show(capsys, own, "pictured=0", "episodes=20", "json=true"))
    assert (found["chosen"], found["robot"], found["pictures"]) == (20, "standin_sawyer", [])
    assert found["settings"]["scale"] == {"world_vector": 0.001}


@needs_data
def test_bridge(capsys: pytest.CaptureFixture[str]) -> None:
    printed = show(capsys, BRIDGE, "episodes=9", "pictured=0")
    assert "25 episodes; 9 of them, evenly spread, were read" in printed
    assert "bounds of robot widowx" in printed
    assert "check " not in printed


@needs_data
def test_clips_with_normalised_actions_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = tmp_path / "fields.yaml"
    fields.write_text(
        "robot: widowx\nactions: {world_vector: 'action[0:3]', rotation_delta: 'action[3:6]',"
        " open_gripper: 'action[6]'}\n"
    )
    printed = show(capsys, DATA / "bridge_clips", f"fields={fields}", f"output={tmp_path}")
    assert "world_vector: values are too large" in printed
    assert "may be one of: normalised, " in printed
    assert "open_gripper: values are -1 or 1" in printed
    assert "settings" not in printed


@needs_data
@pytest.mark.parametrize(
    "name", ["bridge_clips/000000001.mp4", "fractal_frames/fractal_sample.npz"]
)
def test_frames_alone(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = show(capsys, DATA / name, f"output={tmp_path}")
    assert ": 1 episode; all were read" in printed
    assert (tmp_path / "film.mp4").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["/nowhere/at/all"], "expected recorded data at /nowhere/at/all, found nothing there"),
        ([], "source"),
        (["robot=sawyer", "."], "did you mean 'standin_sawyer'?"),
        (["episodes=0", "."], "expected episodes >= 1, found 0"),
        (["pictured=-1", "."], "expected pictured >= 0, found -1"),
        (["EMPTY"], "in a known format"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *(str(tmp_path) if word == "EMPTY" else word for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("v2w show: ")
    assert error.count("\n") == 1
    assert reason in error
