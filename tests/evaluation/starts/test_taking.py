"""Taking starts: what is chosen, what is written, and what is refused before anything is."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.saved_models import tensorflow
from v2w_gym.configs.data import StartsConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation.starts.taking import paths_of, take_starts
from v2w_gym.starts import BUNDLED
from v2w_gym.world_models.data.starts.files import Start, StartFile, load_starts, save_starts

RNG = np.random.default_rng(0)
SAID = ["close the drawer", "open the drawer", None]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven recordings of 6 frames, with actions between them, as a source."""
    frames = RNG.integers(0, 256, (7, 6, 64, 64, 3), np.uint8)
    actions = np.tile(STANDIN_SAWYER.make_action(), (7, 5, 1))
    actions[..., STANDIN_SAWYER.slices["world_vector"]] = RNG.uniform(-0.05, 0.05, (7, 5, 3))
    starts = [
        Start(f"day/{n}", frames[n], actions[n], 5, 6, SAID[n % 3], "close_drawer")
        for n in range(7)
    ]
    path = tmp_path_factory.mktemp("recorded") / "recorded.npz"
    save_starts(path, StartFile(starts, "standin_sawyer", "", "a robot"))
    return path


@pytest.fixture
def cfg(recorded: Path, tmp_path: Path) -> StartsConfig:
    return StartsConfig(source=str(recorded), output=str(tmp_path / "new" / "some.npz"))


def take(cfg: StartsConfig, **settings: Any) -> list[Start]:
    return list(take_starts(replace(cfg, **settings)).starts)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_first_frames_in_order(cfg: StartsConfig, recorded: Path) -> None:
    found = take(cfg)
    assert [start.id for start in found] == [f"day/{n}" for n in range(7)]
    for start, whole in zip(found, load_starts(recorded).starts, strict=True):
        np.testing.assert_array_equal(start.frames, whole.frames[:1])
        assert (start.step, start.length, start.actions.shape) == (0, 6, (0, 13))
        assert (start.instruction, start.task) == (whole.instruction, whole.task)


def test_the_frames_and_actions_before_a_frame(cfg: StartsConfig, recorded: Path) -> None:
    found = take(cfg, context_frames=3, at=-2)
    whole = load_starts(recorded).starts
    np.testing.assert_array_equal(found[4].frames, whole[4].frames[2:5])
    np.testing.assert_array_equal(found[4].actions, whole[4].actions[2:4])
    assert found[4].step == 4


def test_filters_draws_and_shares(cfg: StartsConfig) -> None:
    found = take(cfg, instruction="^open", choose="random", n=2, seed=1, at=0.5)
    assert {start.instruction for start in found} == {"open the drawer"}
    assert [start.step for start in found] == [2, 2]
    assert [s.id for s in take(replace(cfg, output=f"{cfg.output}2"), ids=["day/6", "day/2"])] == [
        *("day/2", "day/6"),
    ]


def test_what_is_drawn_by_id_alone_is_the_same_as_from_everything(cfg: StartsConfig) -> None:
    by_id = take(cfg, choose="random", n=3, seed=5)
    listed = take(replace(cfg, output=f"{cfg.output}2"), choose="random", n=3, seed=5, min_frames=2)
    assert [start.id for start in by_id] == [start.id for start in listed]


def test_three_files_say_what_the_starts_are(cfg: StartsConfig) -> None:
    take(cfg, n=2, instruction="drawer")
    paths = paths_of(cfg.output)
    assert [start.sha256 for start in load_starts(paths.starts).starts] == [
        start["sha256"] for start in json.loads(paths.manifest.read_text())["starts"]
    ]
    manifest = json.loads(paths.manifest.read_text())
    assert manifest["starts"][1] == {
        "number": 1,
        "id": "day/1",
        "frame": 0,
        "episode_frames": 6,
        "instruction": "open the drawer",
        "sha256": load_starts(paths.starts).starts[1].sha256,
    }
    assert manifest["source"]["name"] == "recorded.npz" and manifest["robot"] == "standin_sawyer"
    assert manifest["settings"]["n"] == 2 and str(paths.starts.parent) not in str(manifest)
    with Image.open(paths.sheet) as sheet:
        assert sheet.width > 2 * 176 and sheet.mode == "RGB"


def test_the_same_command_may_be_repeated_and_another_is_refused(cfg: StartsConfig) -> None:
    take(cfg, n=2)
    folder = Path(cfg.output).parent
    before = contents(folder)
    take(cfg, n=2)
    assert contents(folder) == before and sorted(before) == ["some.json", "some.npz", "some.png"]
    with pytest.raises(ValueError, match=r"found some with settings.n 2, not 3; settings.seed 0"):
        take(cfg, n=3, seed=1)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["some.npz", "some.png"])
def test_files_of_others_are_not_overwritten(cfg: StartsConfig, name: str) -> None:
    other = Path(cfg.output).with_name(name)
    other.parent.mkdir()
    other.write_text("precious")
    with pytest.raises(ValueError, match=rf"expected no file at .*{name}, found one without its"):
        take(cfg)
    assert contents(other.parent) == {name: b"precious"}


def test_a_command_that_was_killed_in_between_goes_on(cfg: StartsConfig) -> None:
    take(cfg, n=2)
    paths = paths_of(cfg.output)
    whole = contents(paths.starts.parent)
    paths.starts.unlink()
    paths.sheet.write_bytes(b"")
    take(cfg, n=2)
    assert contents(paths.starts.parent) == whole


def test_a_manifest_is_repeated_byte_by_byte(cfg: StartsConfig, tmp_path: Path) -> None:
    take(cfg, choose="random", n=3, seed=2, context_frames=2, at="random", instruction="drawer")
    manifest = str(paths_of(cfg.output).manifest)
    again = StartsConfig(source=cfg.source, output=str(tmp_path / "again" / "some"))
    take(again, repeat=manifest)
    assert contents(tmp_path / "again") == contents(tmp_path / "new")
    with pytest.raises(ValueError, match="expected no n beside repeat, .* found 3; leave n out"):
        take(again, repeat=manifest, n=3)


def test_a_manifest_of_other_frames_is_refused(cfg: StartsConfig, tmp_path: Path) -> None:
    take(cfg, n=3)
    path = paths_of(cfg.output).manifest
    other = json.loads(path.read_text())
    other["starts"][1]["sha256"] = "0" * 64
    changed = tmp_path / "other.json"
    changed.write_text(json.dumps(other))
    with pytest.raises(ValueError, match=r"other.json, found others in 1 of 3 .* 'day/1'"):
        take(replace(cfg, output=str(tmp_path / "again.npz")), repeat=str(changed))
    changed.write_text('{"format": "v2w-starts-1"}')
    with pytest.raises(ValueError, match="expected a manifest of `v2w starts` in .*other.json"):
        take(cfg, repeat=str(changed))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "other.json"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"instruction": "drawr"}, "found none among 7 .* with the instructions 'close the dra"),
        ({"instruction": "("}, "a regular expression"),
        ({"at": 6}, "a frame from 0 to 5 of episode 'day/0'"),
        ({"context_frames": 7}, "at least 7 frames in every episode"),
        ({"min_frames": 7}, "episodes of at least 7 frames, found none"),
        ({"n": 8}, "expected n of at most 7"),
        ({"choose": "random", "n": 8}, "expected n of at most 7"),
        ({"ids": ["day/11"]}, "found 'day/11'; did you mean 'day/1'"),
        ({"robot": "csgo_player"}, "episode 'day/0' of recorded.npz: expected .*'csgo_player'"),
        ({"robot": "sawyer"}, "expected robot to be one of"),
        ({"choose": "published"}, "robot for choose=published to be one of"),
        ({"repeat": "none.json"}, "expected a manifest of `v2w starts` at none.json"),
    ],
)
def test_what_is_refused_writes_nothing(
    cfg: StartsConfig, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        take(cfg, **settings)
    assert not Path(cfg.output).parent.exists()


def test_many_starts_on_one_sheet(tmp_path: Path) -> None:
    cfg = StartsConfig(source=str(BUNDLED), output=str(tmp_path / "all"))
    assert len(take(cfg)) == 120
    with Image.open(tmp_path / "all.png") as sheet:
        assert 1 < sheet.width / sheet.height < 2


def test_real_episodes_of_another_size_are_resized(tmp_path: Path) -> None:
    if not (data := os.environ.get("V2W_TEST_DATA")):
        pytest.skip("set V2W_TEST_DATA to a folder with real recordings")
    tensorflow()
    source = f"{data}/bridge_rlds/bridge_dataset/1.0.0:val"
    cfg = StartsConfig(source=source, output=str(tmp_path / "carrot"), instruction="carrot", n=2)
    with pytest.raises(ValueError, match="expected frames of 256 x 256 .* fit=true"):
        take(cfg)
    (tmp_path / "mine.yaml").write_text(
        "frames: observation/image_0\ninstruction: language_instruction\nrate: 5\nrobot: widowx\n"
        "actions: {world_vector: 'action[0:3]', rotation_delta: 'action[3:6]', "
        "open_gripper: 'action[6]'}\n"
    )
    own = {"fields": str(tmp_path / "mine.yaml")}
    found = take(cfg, fit=True, context_frames=3, **own)
    manifest = json.loads((tmp_path / "carrot.json").read_text())
    assert manifest["camera"] == "image_0" and manifest["settings"]["fields"]["rate"] == 5
    again = StartsConfig(source=source, output=str(tmp_path / "again"), **own)
    take(again, repeat=str(tmp_path / "carrot.json"))
    for ending in ("npz", "json", "png"):
        here, there = (tmp_path / f"{name}.{ending}" for name in ("carrot", "again"))
        assert here.read_bytes() == there.read_bytes()
    assert [start.frames.shape for start in found] == [(3, 256, 256, 3)] * 2
    assert {start.instruction for start in found} == {"put carrot on plate"}
    assert np.isfinite(found[0].actions).all() and found[0].step == 2
