"""Start files: one format, which holds everything a rollout begins with."""

from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from v2w_gym.world_models.data.sources.opening import open_source
from v2w_gym.world_models.data.starts.files import (
    Start,
    StartFile,
    is_start_file,
    load_starts,
    save_starts,
)

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (2, 3, 8, 6, 3), np.uint8)
ACTIONS = RNG.normal(size=(2, 2, 4)).astype(np.float32)
FILE = StartFile(
    [
        Start("kitchen/7", FRAMES[0], ACTIONS[0], 9, 40, "schließ die Schublade", "close_drawer"),
        Start("kitchen/10", FRAMES[1], np.full((2, 4), np.nan, np.float32), 2, 3, seed=2**40),
    ],
    robot="some_arm",
    camera="wrist",
    source="demo 1.0",
)


def test_everything_comes_back(tmp_path: Path) -> None:
    save_starts(tmp_path / "some.npz", FILE)
    found = load_starts(tmp_path / "some.npz")
    assert (found.robot, found.camera, found.source) == ("some_arm", "wrist", "demo 1.0")
    for start, saved in zip(found.starts, FILE.starts, strict=True):
        np.testing.assert_array_equal(start.frames, saved.frames)
        np.testing.assert_array_equal(start.actions, saved.actions)
        plain = {"frames": None, "actions": None}
        assert vars(start) | plain == vars(saved) | plain
        assert start.sha256 == saved.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["some.npz"]


def test_any_numpy_reads_the_arrays(tmp_path: Path) -> None:
    save_starts(tmp_path / "some.npz", FILE)
    with np.load(tmp_path / "some.npz", allow_pickle=False) as file:
        assert sorted(file) == [
            *("actions", "frames", "header", "ids", "instructions"),
            *("lengths", "seeds", "steps", "tasks"),
        ]
        np.testing.assert_array_equal(file["frames"], FRAMES)


def test_equal_starts_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_starts(tmp_path / name, FILE)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_digest_is_that_of_the_pixels_in_any_memory_order() -> None:
    start = FILE.starts[0]
    turned = replace(start, frames=np.asfortranarray(start.frames))
    assert turned.sha256 == start.sha256 != FILE.starts[1].sha256


def test_a_start_file_is_a_source_of_episodes(tmp_path: Path) -> None:
    save_starts(tmp_path / "some.npz", FILE)
    source = open_source(str(tmp_path / "some.npz"))
    assert (len(source), source.ids()) == (2, ["kitchen/7", "kitchen/10"])
    first, second = source.read()
    assert first.camera == "wrist"
    assert (first.id, first.instruction, first.robot) == (
        *("kitchen/7", "schließ die Schublade", "some_arm"),
    )
    np.testing.assert_array_equal(first.actions, ACTIONS[0])
    assert second.actions is None and second.instruction is None
    assert [episode.id for episode in source.read(1)] == ["kitchen/10"]


@pytest.mark.parametrize("wrong", [{"camera": "wrist"}, {"split": "train"}])
def test_a_start_file_has_one_camera_and_no_splits(tmp_path: Path, wrong: dict[str, str]) -> None:
    save_starts(tmp_path / "some.npz", FILE)
    split = f":{wrong['split']}" if "split" in wrong else ""
    with pytest.raises(ValueError, match="expected no (camera|split) "):
        open_source(f"{tmp_path}/some.npz{split}", camera=wrong.get("camera", ""))


def test_other_files_are_no_start_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", frames=FRAMES[0])
    (tmp_path / "text.npz").write_text("text")
    for name in ("other.npz", "text.npz", "none.npz"):
        assert not is_start_file(tmp_path / name)
        with pytest.raises((ValueError, FileNotFoundError), match=name):
            load_starts(tmp_path / name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"frames": FRAMES[:, 0]}, r"`frames` \(2, 8, 6, 3\) of uint8, not uint8 \(N, K, H, W, 3"),
        ({"frames": FRAMES.astype(np.float32)}, "of float32, not uint8"),
        ({"actions": ACTIONS[:, :1]}, r"`actions` \(2, 1, 4\) for `frames` \(2, 3, 8, 6, 3\)"),
        ({"ids": np.array(["a", "a"])}, "`ids` that name an episode twice"),
        ({"steps": np.array([1.5, 2.0])}, r"`steps` \(2,\) of float64"),
        ({"header": np.array('{"format": "v2w-starts-9"}')}, "does not name the format v2w-sta"),
        ({"header": np.array('{"format": "v2w-starts-1"}')}, "without the texts robot"),
        ({"header": np.array("{")}, "Expecting property name"),
        ({"header": np.zeros(2)}, "not JSON text"),
    ],
)
def test_inconsistent_arrays_are_refused(
    tmp_path: Path, changed: dict[str, np.ndarray], message: str
) -> None:
    save_starts(tmp_path / "some.npz", FILE)
    with np.load(tmp_path / "some.npz") as file:
        arrays = {**file, **changed}
    np.savez(tmp_path / "some.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_starts(tmp_path / "some.npz")


def test_a_file_without_an_array_is_refused(tmp_path: Path) -> None:
    save_starts(tmp_path / "some.npz", FILE)
    with ZipFile(tmp_path / "some.npz") as whole, ZipFile(tmp_path / "less.npz", "w") as less:
        for name in whole.namelist():
            if name != "ids.npy":
                less.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match=r"less.npz, found no ids .* write the starts again"):
        load_starts(tmp_path / "less.npz")
