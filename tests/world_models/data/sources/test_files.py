"""Single files: every type, and errors."""

import os
import struct
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from v2w_gym.world_models.data.decoding import videos
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.data.sources.opening import read_one

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (4, 64, 48, 3), np.uint8)
ACTIONS = RNG.normal(size=(4, 13)).astype(np.float32)


def write_video(path, frames):
    """Write frames (T, H, W, 3) without loss, as far as brightness goes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=3, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def read_all(path):
    """Return an episode, and all its frames."""
    episode = read_one(path)
    return episode, episode.frames[:]


def episode():
    return LabelledEpisode(
        frames=FRAMES,
        actions=ACTIONS[:-1],
        expert_actions=ACTIONS[:-1],
        success=np.zeros(4, bool),
        robot="standin_sawyer",
        task="close_drawer",
        instruction="close the drawer",
        behaviour="expert",
        seed=0,
    )


@pytest.mark.parametrize("name", ["one.png", "one.JPG", "one.npy"])
def test_a_picture_is_a_recording_of_one_frame(tmp_path, name):
    plain = np.full((64, 48, 3), (10, 100, 200), np.uint8)
    if name.endswith("npy"):
        np.save(tmp_path / name, plain)
    else:
        Image.fromarray(plain).save(tmp_path / name)
    recording, frames = read_all(tmp_path / name)
    assert frames.shape == (1, 64, 48, 3) and frames.dtype == np.uint8
    assert np.abs(frames[0].astype(int) - plain).max() <= 2
    assert recording.actions is None


def test_a_picture_without_loss_is_exact_and_transparency_is_dropped(tmp_path):
    transparent = np.dstack([FRAMES[0], np.full((64, 48), 7, np.uint8)])
    Image.fromarray(transparent).save(tmp_path / "one.png")
    np.testing.assert_array_equal(read_all(tmp_path / "one.png")[1][0], FRAMES[0])


def test_frames_in_an_array(tmp_path):
    np.save(tmp_path / "clip.npy", FRAMES)
    recording, frames = read_all(str(tmp_path / "clip.npy"))
    np.testing.assert_array_equal(frames, FRAMES)
    assert recording.actions is None


def test_a_video_gives_every_frame_in_order(tmp_path):
    plain = np.empty((5, 64, 48, 3), np.uint8)
    plain[:] = np.array([20, 70, 120, 170, 220])[:, None, None, None]
    plain[:, :32, :, 0] = 200  # red above
    write_video(tmp_path / "clip.mp4", plain)
    recording, frames = read_all(tmp_path / "clip.mp4")
    assert frames.shape == plain.shape and recording.actions is None
    assert np.abs(frames.astype(int) - plain).max() <= 4


def test_a_video_with_a_title_in_another_encoding(tmp_path):
    write_video(tmp_path / "clip.mp4", FRAMES)
    stored = (tmp_path / "clip.mp4").read_bytes()
    assert b"Lavf" in stored  # the name of the encoder
    (tmp_path / "named.mp4").write_bytes(stored.replace(b"Lavf", b"\xadavf"))
    (_, plain), (_, named) = map(read_all, sorted(tmp_path.glob("*.mp4")))
    np.testing.assert_array_equal(plain, named)


def test_an_episode_gives_frames_and_the_actions_taken(tmp_path):
    save_labelled(tmp_path / "episode.npz", episode())
    recording, frames = read_all(tmp_path / "episode.npz")
    np.testing.assert_array_equal(frames, FRAMES)
    np.testing.assert_array_equal(recording.actions, ACTIONS[:-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_published_converters_last_action_leads_nowhere(tmp_path, dtype):
    np.savez_compressed(tmp_path / "eps.npz", image=FRAMES, action=ACTIONS.astype(dtype))
    recording, frames = read_all(tmp_path / "eps.npz")
    np.testing.assert_array_equal(frames, FRAMES)
    np.testing.assert_array_equal(recording.actions, ACTIONS[:-1])
    assert recording.actions.dtype == np.float32


def test_the_published_converters_frames_alone_will_do(tmp_path):
    np.savez(tmp_path / "eps.npz", image=FRAMES)
    assert read_one(tmp_path / "eps.npz").actions is None


TURNED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation -> how a picture is stored that should be upright."""


@pytest.mark.parametrize("kind", ["png", "jpg"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_picture_is_upright(tmp_path, orientation, kind):
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:32, :24], upright[:32, 24:], upright[32:, :24] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNED[orientation](upright))
    Image.fromarray(stored).save(tmp_path / f"a.{kind}", exif=exif, quality=98)
    found = read_all(tmp_path / f"a.{kind}")[1][0]
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 5


@pytest.mark.parametrize(
    ("stored", "upright"),
    [
        (np.array([[0, 128, 257, 32768, 65535]], np.uint16), [0, 0, 1, 128, 255]),
        (np.array([[0, 7, 255]], np.uint8), [0, 7, 255]),
    ],
)
def test_grey_pictures_of_8_and_16_bits(tmp_path, stored, upright):
    Image.fromarray(stored).save(tmp_path / "grey.png")
    found = read_all(tmp_path / "grey.png")[1][0]
    np.testing.assert_array_equal(found, np.array(upright)[None, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("mode", ["LA", "P", "1", "CMYK"])
def test_pictures_of_other_kinds_become_rgb(tmp_path, mode):
    picture = Image.new("RGB", (48, 64), (255, 255, 255)).convert(mode)
    name = "a.jpg" if mode == "CMYK" else "a.png"
    picture.save(tmp_path / name, **({"transparency": 0} if mode == "P" else {}))
    found = read_all(tmp_path / name)[1]
    assert found.shape == (1, 64, 48, 3) and (found >= 254).all()


def test_a_picture_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png, found a picture that is too large"):
        read_all(tmp_path / "a.png")


def rotate(path, matrix):
    """Write a display matrix, a, b, c, d, into one of our videos."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = matrix
    content[place : place + 36] = struct.pack(
        ">9i", *(int(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0)), 1 << 30
    )
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda stored: stored),
        ((0, 1, -1, 0), lambda stored: np.rot90(stored, -1, (1, 2))),
        ((-1, 0, 0, -1), lambda stored: stored[:, ::-1, ::-1]),
        ((0, -1, 1, 0), lambda stored: np.rot90(stored, 1, (1, 2))),
        ((-1, 0, 0, 1), lambda stored: stored[:, :, ::-1]),
        ((1, 0, 0, -1), lambda stored: stored[:, ::-1]),
        ((0, 1, 1, 0), lambda stored: stored.swapaxes(1, 2)),
        ((0, -1, -1, 0), lambda stored: stored.swapaxes(1, 2)[:, ::-1, ::-1]),
    ],
)
def test_a_video_is_upright(tmp_path, matrix, upright):
    write_video(tmp_path / "a.mp4", FRAMES)
    stored = read_all(tmp_path / "a.mp4")[1]
    rotate(tmp_path / "a.mp4", matrix)
    np.testing.assert_array_equal(read_all(tmp_path / "a.mp4")[1], upright(stored))


def test_a_video_that_is_to_be_shown_at_an_angle_is_refused(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES)
    rotate(tmp_path / "a.mp4", (0.866, 0.5, -0.5, 0.866))
    with pytest.raises(
        ValueError, match="a.mp4, found a display matrix .*no multiple of 90 degrees"
    ):
        read_all(tmp_path / "a.mp4")


def test_no_more_of_a_video_is_decoded_than_is_wanted(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", np.tile(FRAMES, (10, 1, 1, 1)))
    decoded, known = [], videos._to_array
    monkeypatch.setattr(videos, "_to_array", lambda frame: decoded.append(1) or known(frame))
    few = read_one(tmp_path / "a.mp4").frames[:3]
    assert len(decoded) == len(few) == 3
    np.testing.assert_array_equal(few, read_all(tmp_path / "a.mp4")[1][:3])


def test_a_video_too_long_for_memory_is_read_in_part(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", FRAMES)
    monkeypatch.setattr(videos, "LARGEST", 2 * FRAMES[0].nbytes)
    assert len(read_one(tmp_path / "a.mp4").frames[:2]) == 2
    with pytest.raises(ValueError, match="a.mp4, found more than .*fewer frames"):
        read_all(tmp_path / "a.mp4")


def test_a_damaged_frame_is_not_taken_for_a_good_one(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, np.tile(FRAMES, (3, 1, 1, 1)))
    content = bytearray(path.read_bytes())
    data = content.index(b"mdat") + 4
    end = data - 8 + int.from_bytes(content[data - 8 : data - 4], "big")
    middle = (data + end) // 2
    content[middle:end] = RNG.bytes(end - middle)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a.mp4, found .*(damaged data in frame|no readable)"):
        read_all(path)
    assert len(read_one(path).frames[:1]) == 1


def test_ten_bits_become_eight(tmp_path):
    grey = np.linspace(0, 255, 4, dtype=np.uint8)[:, None, None, None]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=3, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 48, "yuv420p10le"
        for frame in np.broadcast_to(grey, (4, 64, 48, 3)):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p10le")))
        container.mux(stream.encode())
    found = read_all(tmp_path / "a.mp4")[1]
    assert np.abs(found.astype(int) - grey).max() <= 2


@pytest.mark.parametrize(
    "name", ["a=1.npy", "12:30.npy", "#1.npy", "a b.npy", "a\nb.npy", "фильм.npy"]
)
def test_any_name_will_do(tmp_path, name):
    np.save(tmp_path / name, FRAMES)
    assert len(read_one(tmp_path / name).frames[:2]) == 2


def test_a_recording_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "clip.npy", FRAMES)
    assert len(read_all("~/clip.npy")[1]) == 4


@pytest.mark.parametrize("kind", ["png", "mp4", "npy", "npz"])
def test_what_git_lfs_leaves_is_named(tmp_path, kind):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (tmp_path / f"a.{kind}").write_text(pointer)
    with pytest.raises(ValueError, match=rf"a\.{kind}, found a git-LFS pointer"):
        read_all(tmp_path / f"a.{kind}")


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("strat.png", FileNotFoundError, "did you mean 'start.png'"),
        ("folder.png", ValueError, "found none"),
        ("start.pnk", ValueError, r"known format .*\.mp4.*found a \.pnk; did you mean '\.png'"),
        ("start.png", ValueError, "found cannot identify image"),
        ("start.mp4", ValueError, "found no readable video"),
        ("start.npy", ValueError, "start.npy, found"),
        ("start.npz", ValueError, "start.npz, found"),
    ],
)
def test_files_that_are_no_recordings(tmp_path, name, error, text):
    for kind in ("png", "mp4", "npy", "npz", "pnk"):
        (tmp_path / f"start.{kind}").write_bytes(b"nothing of the kind")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(error, match=text):
        read_all(tmp_path / name)


@pytest.mark.parametrize("name", ["clip.png", "clip.mp4", "clip.npy", "episode.npz", "eps.npz"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, name):
    path = tmp_path / name
    if name == "clip.png":
        Image.fromarray(FRAMES[0]).save(path)
    elif name == "clip.mp4":
        write_video(path, FRAMES)
    elif name == "clip.npy":
        np.save(path, FRAMES)
    elif name == "episode.npz":
        save_labelled(path, episode())
    else:
        np.savez_compressed(path, image=FRAMES, action=ACTIONS)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=name):
        read_all(path)


def test_a_damaged_byte_is_noticed(tmp_path):
    np.savez_compressed(tmp_path / "eps.npz", image=FRAMES)
    damaged = bytearray((tmp_path / "eps.npz").read_bytes())
    damaged[60:90] = bytes(30)
    (tmp_path / "eps.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match="eps.npz, found"):
        read_all(tmp_path / "eps.npz")


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (FRAMES.astype(np.float64), r"found float64 \(4, 64, 48, 3\), not uint8 frames"),
        (FRAMES[..., :2], r"uint8 \(4, 64, 48, 2\)"),
        (FRAMES[:0], r"\(0, 64, 48, 3\).*T > 0"),
        (FRAMES[0, :, :, 0], r"\(64, 48\)"),
    ],
)
def test_arrays_that_are_no_frames(tmp_path, frames, text):
    np.save(tmp_path / "clip.npy", frames)
    with pytest.raises(ValueError, match=text):
        read_all(tmp_path / "clip.npy")


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"arr_0": ACTIONS}, r"arrays \['arr_0'\], neither"),
        ({"image": FRAMES, "action": ACTIONS[:-1]}, r"`action` \(3, 13\) for 4 `image`"),
        ({"image": FRAMES, "action": ACTIONS[:, 0]}, r"`action` \(4,\)"),
    ],
)
def test_archives_that_are_no_episodes(tmp_path, arrays, text):
    np.savez(tmp_path / "eps.npz", **arrays)
    with pytest.raises(ValueError, match=text):
        read_all(tmp_path / "eps.npz")


def test_a_video_of_an_unknown_codec(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES)
    content = (tmp_path / "a.mp4").read_bytes().replace(b"avc1", b"zzz1")
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="a.mp4, found a video with an unknown codec"):
        read_one(tmp_path / "a.mp4")


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="found no video stream"):
        read_all(tmp_path / "sound.mp4")


@pytest.mark.skipif("V2W_TEST_DATA" not in os.environ, reason="V2W_TEST_DATA is not set")
def test_real_recordings():
    data = Path(os.environ["V2W_TEST_DATA"])
    video, frames = read_all(data / "bridge_clips" / "000000000.mp4")
    assert frames.shape == (40, 256, 256, 3) and frames.std() > 20
    episode, frames = read_all(data / "fractal_frames" / "fractal_sample.npz")
    assert frames.shape == (22, 256, 320, 3) and episode.actions is None


def test_a_video_that_ends_before_its_last_frame_is_refused(tmp_path):
    """Its list of frames comes first, so that it opens; none of them may be missing in silence."""
    with av.open(str(tmp_path / "a.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=3, options={"crf": "0", "g": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 48, "yuv444p"
        for frame in np.tile(FRAMES, (3, 1, 1, 1)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a.mp4, found \d of 12 frames; copy the video again"):
        read_one(tmp_path / "a.mp4")


def test_an_hdr_video_is_read_with_a_warning(tmp_path, caplog):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        colours = {"x264-params": "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"}
        stream = container.add_stream("libx264", rate=3, options=colours)
        stream.height, stream.width, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in FRAMES:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert len(read_all(tmp_path / "a.mp4")[1]) == 4
    assert caplog.text.count("a.mp4 is an HDR video (PQ)") == 1


def peak_of(path):
    """Return the frame number 3 of an episode, and the most bytes that Python took for it."""
    tracemalloc.start()
    try:
        frame = read_one(path).frames[3:4]
        return frame, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["eps.npz", "clip.npy"])
def test_a_frame_of_a_long_recording_costs_little_memory(tmp_path, name):
    frames = np.zeros((2000, 64, 64, 3), np.uint8)
    frames[3] = 7
    read_one(_save(tmp_path / "short.npz", frames[:4]))  # imports take memory, too
    frame, peak = peak_of(_save(tmp_path / name, frames))
    assert (frame == 7).all() and peak < 2 << 20


def _save(path, frames):
    if path.suffix == ".npy":
        np.save(path, frames)
    else:
        np.savez_compressed(path, image=frames, action=np.zeros((len(frames), 13), np.float32))
    return path
