"""One episode, checked and ready to be written; real recordings among them."""

import os
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.world_models.data.recorded import make_episode
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.robots import STANDIN_SAWYER, WIDOWX
from v2w_gym.world_models.data.decoding.encoded import decode_picture
from v2w_gym.world_models.data.preparing.episodes import (
    ReadyEpisode,
    count_stuck,
    moves,
    ready_episode,
    to_jpeg,
    to_png,
)
from v2w_gym.world_models.data.preparing.prepare import prepare
from v2w_gym.world_models.data.preparing.report import LeftOut, report_from_json
from v2w_gym.world_models.data.sources.opening import open_source


class Stored:
    """Frames that are stored as these files."""

    def __init__(self, *pictures: bytes) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, steps: slice) -> np.ndarray:
        return np.stack([decode_picture(picture) for picture in self.pictures[steps]])

    def encoded(self, step: int) -> bytes:
        return self.pictures[step]


def ready(pictures: tuple[bytes, ...], **settings: object) -> ReadyEpisode | LeftOut:
    """Return an episode of stored pictures as it is written."""
    episode = make_episode(0, len(pictures), frames=Stored(*pictures))
    cfg = PrepareConfig(**{"source": ".", "output": ".", "robot": "standin_sawyer", **settings})
    return ready_episode(episode, 0, STANDIN_SAWYER, cfg)


def test_pictures_are_copied_unless_they_are_grey_transparent_or_turned() -> None:
    frame = make_episode(0, 2).frames[0]
    grey, clear, turned = BytesIO(), BytesIO(), BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    Image.fromarray(frame).save(turned, format="PNG", exif=exif)
    Image.fromarray(frame).convert("L").save(grey, format="PNG")
    Image.fromarray(frame).convert("RGBA").save(clear, format="PNG")
    pictures = (
        to_jpeg(frame, 90),
        to_png(frame),
        grey.getvalue(),
        clear.getvalue(),
        turned.getvalue(),
    )
    found = ready(pictures)
    assert isinstance(found, ReadyEpisode)
    assert found.pictures[:2] == list(pictures[:2])
    assert found.report.pictures == {"copied JPEG": 1, "copied PNG": 1, "png": 3}
    np.testing.assert_array_equal(decode_picture(found.pictures[3]), frame)
    assert np.ptp(decode_picture(found.pictures[2]), axis=2).max() == 0


@pytest.mark.parametrize("cut", [3, 500])
def test_a_damaged_picture_leaves_the_episode_out(cut: int) -> None:
    picture = to_jpeg(make_episode(0, 2).frames[0], 90)
    found = ready((picture, picture[:cut]))
    assert isinstance(found, LeftOut)
    assert found.kind == "damaged"
    assert "damaged picture" in found.reason


def test_the_last_action_is_at_rest() -> None:
    found = ready(tuple(to_png(frame) for frame in make_episode(0, 3).frames))
    assert isinstance(found, ReadyEpisode)
    np.testing.assert_array_equal(found.actions[:-1], make_episode(0, 3).actions)
    np.testing.assert_array_equal(found.actions[-1], STANDIN_SAWYER.make_action())


def test_frames_are_stuck_if_they_repeat_for_long_while_the_robot_moves() -> None:
    repeated = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0], np.bool_)
    moving = np.ones(12, np.bool_)
    assert count_stuck(repeated, moving) == 6
    assert count_stuck(repeated, ~moving) == 0
    moving[7] = False
    assert count_stuck(repeated, moving) == 0


def test_a_held_gripper_is_no_motion() -> None:
    held = WIDOWX.make_action(open_gripper=1.0)
    moved = WIDOWX.make_action(open_gripper=1.0, world_vector=(0.0, 0.0, 0.001))
    assert moves(np.stack([held, moved]), WIDOWX).tolist() == [False, True]


def test_real_recordings_keep_their_files_and_actions() -> None:
    episode = next(open_source(str(bridge())).read())
    small = replace(WIDOWX, frame_size=(64, 64))
    cfg = PrepareConfig(source=".", output=".", robot="widowx")
    found = ready_episode(episode, 0, small, cfg)
    assert isinstance(found, ReadyEpisode)
    assert found.report.pictures == {"copied JPEG": len(episode)}
    assert found.pictures == [episode.frames.encoded(step) for step in range(len(episode))]
    np.testing.assert_allclose(found.actions[:-1], episode.actions, atol=0.01)


def test_a_real_data_set_that_was_cut_off_keeps_its_whole_episodes(tmp_path: Path) -> None:
    folder = shutil.copytree(bridge(), tmp_path / "bridge_dataset/1.0.0")
    (records,) = folder.glob("*train.tfrecord*")
    records.write_bytes(records.read_bytes()[: records.stat().st_size * 3 // 4])
    cfg = PrepareConfig(
        source=str(folder), output=str(tmp_path / "out"), robot="widowx", fit=True, workers=1
    )
    data = prepare(cfg)
    report = report_from_json(data.card["report"])
    assert 15 < len(data) < 22
    assert len(data) + len(report.left_out) == 25
    assert {each.kind for each in report.left_out} == {"damaged"}
    assert data.episode(0).instruction
    assert data.frames(0, 0, 2).shape == (2, 256, 256, 3)


def bridge() -> Path:
    """Return the folder of real episodes of a WidowX arm, or skip the test."""
    if not (data := os.environ.get("V2W_TEST_DATA")):
        pytest.skip("set V2W_TEST_DATA to a folder with real recordings")
    return Path(data, "bridge_rlds/bridge_dataset/1.0.0")
