"""Frames of a video by time: the same for every way in which frames refer to each other."""

import numpy as np
import pytest

from tests.lerobot_folders import encode, picture
from v2w_gym.world_models.data.decoding.video_frames import VideoFrames

COUNT, RATE = 60, 30
FRAMES = np.stack([picture(0, step) for step in range(COUNT)])


def open_frames(path, count=COUNT, shift=0.0, whole=True):
    times = (np.arange(count) / RATE).astype(np.float32) + shift  # as rows hold them
    return VideoFrames(path, times.astype(np.float64), "episode_000003", whole)


@pytest.fixture(
    params=[
        {"g": "1"},
        {"g": "2", "bf": "0"},
        {"g": "12", "bf": "0"},
        {"g": "12", "bf": "2"},
        {"g": "250", "bf": "2"},
        {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"},
    ],
    ids=str,
)
def video(request, tmp_path):
    path = tmp_path / "video.mp4"
    encode(path, FRAMES, RATE, {"qp": "0", **request.param})
    return open_frames(path)


def test_every_frame_is_found_by_itself(video):
    for step in range(COUNT):
        np.testing.assert_array_equal(video[step : step + 1], FRAMES[step : step + 1])


def test_slices_and_sparse_steps(video):
    for steps in (slice(None), slice(7, 23), slice(50, None), slice(3, None, 17)):
        np.testing.assert_array_equal(video[steps], FRAMES[steps])
    steps = np.array([59, 0, 0, 44, 12])
    np.testing.assert_array_equal(video[steps], FRAMES[steps])
    assert video[2:2].shape == (0, *FRAMES.shape[1:])


@pytest.fixture
def path(tmp_path):
    encode(tmp_path / "video.mp4", FRAMES, RATE, {"qp": "0", "g": "6", "bf": "0"})
    return tmp_path / "video.mp4"


def test_times_may_differ_by_the_tolerance(path):
    np.testing.assert_array_equal(open_frames(path, shift=9e-5)[5:9], FRAMES[5:9])
    with pytest.raises(ValueError, match=r"expected a frame at 0.1669 s .* \(step 5 of episode_0"):
        open_frames(path, shift=2e-4)[5:9]


def test_a_missing_frame(tmp_path):
    encode(tmp_path / "video.mp4", FRAMES[:40], RATE, {"qp": "0"})
    frames = open_frames(tmp_path / "video.mp4", whole=False)
    np.testing.assert_array_equal(frames[30:40], FRAMES[30:40])
    with pytest.raises(ValueError, match="at 1.3333 s .*step 40.* found the end of the video"):
        frames[35:45]


@pytest.mark.parametrize("count", [59, 61])
def test_another_number_of_frames(path, count):
    with pytest.raises(ValueError, match=f"expected {count} frames in .* has rows, found 60"):
        open_frames(path, count)[:1]
    assert len(open_frames(path, 59, whole=False)[:]) == 59


def test_only_what_is_needed_is_decoded(path):
    stored = bytearray(path.read_bytes())
    data = stored.find(b"mdat")
    middle = data + (stored.find(b"moov") - data) // 2
    stored[middle : middle + 20_000] = bytes(20_000)
    path.write_bytes(stored)
    frames = open_frames(path)
    np.testing.assert_array_equal(frames[2:20], FRAMES[2:20])
    np.testing.assert_array_equal(frames[55:60], FRAMES[55:60])
    with pytest.raises(ValueError, match="video.mp4"):
        frames[20:50]


def test_no_video(tmp_path):
    path = tmp_path / "video.mp4"
    with pytest.raises(
        FileNotFoundError, match="expected the file .*video.mp4, found none; download"
    ):
        open_frames(path)[:1]
    path.write_bytes(b"no video")
    with pytest.raises(ValueError, match="expected a whole video of episode_000003 at .*; copy it"):
        open_frames(path)[:1]


def test_a_title_in_another_encoding(path):
    stored = path.read_bytes()
    assert b"Lavf" in stored  # the name of the encoder
    path.write_bytes(stored.replace(b"Lavf", b"\xadavf"))
    np.testing.assert_array_equal(open_frames(path)[3:5], FRAMES[3:5])
