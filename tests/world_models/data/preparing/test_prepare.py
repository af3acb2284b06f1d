"""Preparation as a whole: what is kept, left out, refused and continued."""

import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.world_models.data.recorded import InMemory, make_episode
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.prepared import PreparedData
from v2w_gym.world_models.data.preparing.prepare import prepare_source
from v2w_gym.world_models.data.preparing.report import report_from_json
from v2w_gym.world_models.data.preparing.summary import summarise
from v2w_gym.world_models.data.preparing.workers import read_outcomes

GOOD = [make_episode(number, 12) for number in range(6)]


@dataclass(frozen=True)
class Damaged(InMemory):
    """A source with one damaged episode."""

    number: int = 0

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield some episodes, up to the damaged one."""
        for number in range(len(self))[start:stop]:
            if number == self.number:
                raise ValueError("expected a whole record, found half of one")
            yield self.episodes[number]


def settings(folder: Path, **changes: Any) -> PrepareConfig:
    """Return settings for one process."""
    given = {"source": ".", "output": str(folder), "robot": "standin_sawyer", "workers": 1}
    return PrepareConfig(**{**given, **changes})


def prepared(folder: Path, *episodes: Episode, **changes: Any) -> PreparedData:
    """Prepare episodes in memory."""
    return prepare_source(InMemory(episodes), settings(folder, **changes))


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def wrong(episode: Episode, **changes: Any) -> Episode:
    """Return an episode with a fault."""
    return replace(episode, id="wrong", **changes)


def test_a_damaged_episode_is_left_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    source = Damaged(GOOD, number=2)
    data = prepare_source(source, settings(tmp_path))
    assert data.ids() == tuple(each.id for each in GOOD if each is not GOOD[2])
    (left_out,) = report_from_json(data.card["report"]).left_out
    assert (left_out.number, left_out.kind) == (2, "damaged")
    assert "half of one" in left_out.reason


class Lost:
    """Frames whose file is not there."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, steps: object) -> np.ndarray:
        raise FileNotFoundError("expected the file 7.mp4, found none")


def test_an_episode_whose_file_is_missing_is_left_out_unless_all_are(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    episodes = [GOOD[0], wrong(GOOD[1], frames=Lost()), GOOD[2]]
    source = InMemory(episodes, files=(tmp_path / "here",))
    data = prepare_source(source, settings(tmp_path / "out"))
    assert "1 episode for this reason: missing file" in summarise(data)
    assert "7.mp4" in summarise(data)
    outcomes = read_outcomes(source, settings(tmp_path / "again"), 0, 3, workers=1)
    next(outcomes)
    (tmp_path / "here").unlink()
    with pytest.raises(FileNotFoundError, match=r"7\.mp4"):
        next(outcomes)


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        ({"actions": 1000 * GOOD[0].actions + 100}, "actions", "units"),
        ({"actions": np.full((11, 13), np.nan, np.float32)}, "actions", "finite"),
        ({"actions": np.zeros((11, 7), np.float32)}, "actions", r"(11, 7)"),
        ({"frames": np.zeros((12, 32, 32, 3), np.uint8)}, "frame size", "32 x 32"),
        ({"robot": "google_robot"}, "robot", "google_robot"),
        ({"rate": 30.0}, "rate", "found 30"),
        ({"frames": np.zeros((12, 64, 64, 3), np.uint8)}, "stuck", "12 times the same"),
    ],
)
def test_an_episode_that_does_not_fit_is_left_out_and_a_whole_set_is_refused(
    tmp_path: Path, fault: dict[str, Any], kind: str, reason: str
) -> None:
    data = prepared(tmp_path / "some", GOOD[0], wrong(GOOD[1], **fault), GOOD[2])
    (left_out,) = report_from_json(data.card["report"]).left_out
    assert (left_out.id, left_out.kind) == ("wrong", kind)
    assert reason in left_out.reason
    assert f"1 episode for this reason: {kind}" in summarise(data)
    with pytest.raises(ValueError, match=rf"none among the first 32; 32 for this reason \({kind}"):
        prepared(tmp_path / "all", *[wrong(GOOD[0], **fault)] * 40, GOOD[1])
    assert not (tmp_path / "all").exists()


def test_a_whole_set_without_episodes_that_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none among the first 3"):
        prepared(tmp_path / "all", *[wrong(each, robot="google_robot") for each in GOOD[:3]])


def test_what_was_corrected_is_counted_by_field(tmp_path: Path) -> None:
    actions = GOOD[0].actions.copy()
    actions[3, 10:] = (0.07, -0.09, 0)
    still = np.repeat(GOOD[1].frames[:4], (1, 1, 9, 1), axis=0)
    data = prepared(tmp_path, replace(GOOD[0], actions=actions), replace(GOOD[1], frames=still))
    report = report_from_json(data.card["report"])
    assert report.beyond["world_vector"].values == 2
    assert report.beyond["world_vector"].worst == pytest.approx(-0.09)
    assert (report.stuck_frames, report.stuck_episodes) == (8, 1)
    assert "2 values of world_vector" in summarise(data)
    assert "8 frames in 1 episode " in summarise(data)


def test_fields_that_the_source_lacks_are_reported(tmp_path: Path) -> None:
    hand = replace(GOOD[0], actions=GOOD[0].actions[:, 10:], action_fields=(("world_vector", 3),))
    data = prepared(tmp_path, hand)
    np.testing.assert_array_equal(data.actions(0), GOOD[0].actions)
    assert "at rest      rotation_delta, which the source lacks in 1 episode" in summarise(data)


def test_success_is_kept_where_it_is_recorded(tmp_path: Path) -> None:
    without = replace(GOOD[1], success=None)
    first = prepared(tmp_path / "first", GOOD[0], without)
    np.testing.assert_array_equal(first.episode(0).success, GOOD[0].success)
    assert first.episode(1).success is None
    later = prepared(tmp_path / "later", without, GOOD[0])
    assert later.ids() == (without.id,)
    assert "1 episode for this reason: success" in summarise(later)


def test_other_fields_in_the_same_file_are_another_run(tmp_path: Path) -> None:
    fields = tmp_path / "mine.yaml"
    fields.write_text("rate: 3\n")
    prepared(tmp_path / "out", *GOOD, fields=str(fields))
    fields.write_text("rate: 5\n")
    with pytest.raises(ValueError, match="settings.fields.rate 3.0, found 5.0"):
        prepared(tmp_path / "out", *GOOD, fields=str(fields))


def test_an_interrupted_run_continues_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole = prepared(tmp_path / "whole", *GOOD, file_mb=0.2).folder
    broken = InMemory([*GOOD[:4], replace(GOOD[4], frames=Interruption())])
    with pytest.raises(KeyboardInterrupt):
        prepare_source(InMemory([*broken.episodes, GOOD[5]]), settings(tmp_path / "b", file_mb=0.2))
    assert not list((tmp_path / "b").rglob("*.partial"))
    assert len(list((tmp_path / "b").rglob("file-*.parquet"))) == 2
    again = prepared(tmp_path / "b", *GOOD, file_mb=0.2).folder
    assert content(again) == content(whole)


class Interruption:
    """Frames during which the user presses Ctrl-C."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, steps: object) -> np.ndarray:
        raise KeyboardInterrupt


def test_a_finished_folder_is_checked_and_not_written_again(tmp_path: Path) -> None:
    data = prepared(tmp_path, *GOOD)
    before = [path.stat().st_mtime_ns for path in data.files]
    assert prepared(tmp_path, *GOOD, workers=7).ids() == data.ids()
    assert [path.stat().st_mtime_ns for path in data.files] == before
    damaged = bytearray(data.files[0].read_bytes())
    damaged[1000] ^= 1
    data.files[0].write_bytes(damaged)
    with pytest.raises(ValueError, match="found other bytes"):
        prepared(tmp_path, *GOOD)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"robot": "google_robot", "fit": True}, "robot.name 'standin_sawyer'"),
        ({"pictures": "jpeg"}, "settings.pictures 'copy', found 'jpeg'"),
        ({"scale": {"world_vector": 0.5}}, "scale"),
        ({"limit": 3}, "settings.limit None, found 3"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(
    tmp_path: Path, changes: dict[str, Any], found: str
) -> None:
    prepared(tmp_path, *GOOD)
    with pytest.raises(ValueError, match="holds another run") as refused:
        prepared(tmp_path, *GOOD, **changes)
    assert found in str(refused.value)


def test_a_folder_with_other_data_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    with pytest.raises(ValueError, match=r"new or empty folder at .*, found meta there"):
        prepared(tmp_path, *GOOD)
    assert content(tmp_path) == {"meta/info.json": b"{}"}


def test_limit_takes_the_first_episodes(tmp_path: Path) -> None:
    assert prepared(tmp_path, *GOOD, limit=2).ids() == ("episode 0", "episode 1")


def test_pictures_of_a_prepared_folder_are_copied_or_made_smaller(tmp_path: Path) -> None:
    first = prepared(tmp_path / "first", *GOOD)
    jpeg = prepare_source(first, settings(tmp_path / "jpeg", pictures="jpeg", quality=80))
    copied = prepare_source(jpeg, settings(tmp_path / "copied"))
    assert copied.pictures(1) == jpeg.pictures(1)
    assert copied.card["report"]["pictures"] == {"copied JPEG": 72}
    assert copied.pictures(1)[0].startswith(b"\xff\xd8")
    np.testing.assert_array_equal(copied.frames(1), jpeg.frames(1))


def test_a_full_disk_ends_in_one_line_and_leaves_whole_files(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        _prepare_within_a_small_limit(tmp_path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "no space left" in (tmp_path / "error").read_text()
    assert not list((tmp_path / "data").rglob("*.partial"))
    whole = prepared(tmp_path / "whole", *GOOD, file_mb=0.2).folder
    assert content(prepared(tmp_path / "data", *GOOD, file_mb=0.2).folder) == content(whole)


def _prepare_within_a_small_limit(folder: Path) -> None:
    """In a child process: write files of at most 100 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        prepared(folder / "data", *GOOD, file_mb=0.2)
    except OSError as error:
        (folder / "error").write_text(str(error))
        os._exit(0)
    os._exit(1)
