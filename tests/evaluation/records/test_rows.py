import dataclasses
import errno
import json
import os

import numpy as np
import pytest

from v2w_gym.evaluation.records.rows import (
    ROWS,
    RolloutStore,
    Row,
    load_rows,
    read_rows,
    video_name,
)

FRAMES = np.zeros((3, 8, 8, 3), np.uint8)


def make_row(start=0, policy="zero", **changes):
    row = Row(
        policy=policy,
        task="close_drawer",
        start=start,
        start_seed=100 + start,
        seed=0,
        success=True,
        steps=2,
        score=0.75,
        judge="j-1",
        policy_fingerprint="",
        model_fingerprint="m1",
        video=video_name(policy, "close_drawer", start, 0),
    )
    return dataclasses.replace(row, **changes)


@pytest.fixture
def run(tmp_path):
    folder = RolloutStore(tmp_path)
    for start in (1, 0):
        folder.save(make_row(start), FRAMES, fps=3)
    return folder


def reopened(run):
    return RolloutStore(run.path)


def test_rows_come_back_sorted_and_done(run):
    table = load_rows(run.path / ROWS)
    assert table["start"].tolist() == [0, 1]
    assert table.loc[0].to_dict() == dataclasses.asdict(make_row(0))
    assert reopened(run).done == {("zero", "close_drawer", start, 0) for start in (0, 1)}


def test_abstention_is_neither_true_nor_false(run):
    run.save(make_row(2, success=None), FRAMES, fps=3)
    run.save(make_row(3, success=False), FRAMES, fps=3)
    assert load_rows(run.path / ROWS)["success"].tolist() == [True, True, None, False]


@pytest.mark.parametrize("lost", [1, 30, 100])
def test_a_torn_last_row_is_redone_and_the_next_row_is_whole(run, lost, caplog):
    file = run.path / ROWS
    os.truncate(file, file.stat().st_size - lost)
    assert len(read_rows(file)) == 1
    again = reopened(run)
    assert again.done == {("zero", "close_drawer", 1, 0)}
    assert "incomplete line" in caplog.text
    again.save(make_row(0), FRAMES, fps=3)
    assert [row.start for row in read_rows(file)] == [1, 0]


def test_a_damaged_row_in_the_middle_is_an_error_that_names_the_line(run):
    file = run.path / ROWS
    file.write_text("{broken\n" + file.read_text())
    with pytest.raises(ValueError, match="in line 1"):
        load_rows(file)


def test_lines_that_hold_nothing_are_read_over(run):
    file = run.path / ROWS
    first, second = file.read_text().splitlines()
    file.write_text(f"\n{first}\n\0\0\0\n{second}\r\n \n")
    assert [row.start for row in read_rows(file)] == [1, 0]


@pytest.mark.parametrize("damage", ["missing", "truncated", "of another length"])
def test_a_rollout_without_its_video_is_redone_and_counted_once(run, damage, caplog):
    video = run.path / make_row(0).video
    if damage == "missing":
        video.unlink()
    elif damage == "truncated":
        os.truncate(video, 500)
    else:
        RolloutStore(run.path).save(make_row(0, steps=7), FRAMES, fps=3)
    again = reopened(run)
    assert again.done == {("zero", "close_drawer", 1, 0)}
    assert "will be done again" in caplog.text
    again.save(make_row(0, score=0.5), FRAMES, fps=3)
    assert load_rows(run.path / ROWS)["score"].tolist() == [0.5, 0.75]


def test_a_full_disk_says_so_and_loses_nothing_finished(run, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("v2w_gym.world_models.files.os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device; finished rollouts are kept"):
            run.save(make_row(2), FRAMES, fps=3)
    assert {row.start for row in read_rows(run.path / ROWS)} >= {0, 1}
    assert not list(run.path.rglob("*.partial"))


def test_a_plain_label_is_the_name_of_its_folder():
    assert video_name("rt1-15_v1.2", "t", 3, 1) == "videos/rt1-15_v1.2/t_0003_0001.mp4"


@pytest.mark.parametrize(
    "label", ["../my policy", "/etc", "..", ".", "a\0b", "抓取", "x" * 300, "a$b$"]
)
def test_an_odd_label_stays_in_the_run_folder(label):
    videos, folder, file = video_name(label, "t", 3, 1).split("/")
    assert (videos, file) == ("videos", "t_0003_0001.mp4")
    assert set(folder) - {"."} and not folder.startswith("..") and len(folder) < 120
    assert folder.isascii() and folder.replace("-", "").replace("_", "").isalnum()


def test_labels_that_differ_have_folders_that_differ():
    labels = ["a b", "a_b", "a/b", "抓取", "推动", "", "_", ".", "..", "x" * 300, "x" * 301]
    assert len({video_name(label, "t", 0, 0) for label in labels}) == len(labels)


def test_no_rollouts_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="v2w rank"):
        load_rows(tmp_path / ROWS)


def test_rows_are_plain_json(run):
    first = (run.path / ROWS).read_text().splitlines()[0]
    assert json.loads(first)["success"] is True
