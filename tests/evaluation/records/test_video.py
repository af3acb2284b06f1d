import av
import numpy as np
import pytest

from v2w_gym.evaluation.records.video import read_video, write_video


def moving_square(length=21, height=64, width=64):
    rows, columns = np.mgrid[:height, :width]
    frames = np.empty((length, height, width, 3), np.uint8)
    frames[...] = np.stack([rows * 3 % 256, columns * 3 % 256, 128 + 0 * rows], -1)
    for t, frame in enumerate(frames):
        frame[t : t + 9, 5:14] = [250, 10, 40]
    return frames


def test_reads_back_what_was_written(tmp_path):
    frames = moving_square()
    write_video(tmp_path / "a.mp4", frames, fps=3)
    error = np.abs(read_video(tmp_path / "a.mp4").astype(int) - frames)
    assert error.shape == frames.shape
    assert error.mean() < 1
    assert error.max() < 16  # a filter that mixes neighbouring colours misses by 100 here


def test_single_pixel_columns_of_saturated_colour_do_not_mix(tmp_path):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    frames[:, :, ::2], frames[:, :, 1::2] = [255, 0, 0], [0, 0, 255]
    write_video(tmp_path / "a.mp4", frames, fps=3)
    assert np.abs(read_video(tmp_path / "a.mp4").astype(int) - frames).max() < 16


@pytest.mark.parametrize("size", [(64, 64), (63, 65), (256, 320)])
def test_any_frame_size(tmp_path, size):
    frames = moving_square(2, *size)
    write_video(tmp_path / "a.mp4", frames, fps=3)
    assert read_video(tmp_path / "a.mp4").shape == (2, *size, 3)


def test_browsers_can_play_it(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(), fps=3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec.name, stream.pix_fmt, stream.profile) == ("h264", "yuv420p", "High")
        assert (stream.width, stream.height, float(stream.average_rate)) == (128, 128, 3)


def test_same_frames_give_the_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, moving_square(), fps=3)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_a_truncated_file_is_refused(tmp_path, kept):
    path = tmp_path / "a.mp4"
    write_video(path, moving_square(), fps=3)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="expected a whole video"):
        read_video(path)


def test_a_foreign_video_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=3)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="expected a v2w-video-1 file"):
        read_video(tmp_path / "a.mp4")


def test_frames_of_another_type_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected uint8 frames .* found float64"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3)), fps=3)
    assert not list(tmp_path.iterdir())
