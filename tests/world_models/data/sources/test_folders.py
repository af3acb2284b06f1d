"""Folders of videos and pictures, and the actions beside them."""

import os
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from v2w_gym.configs.action_layouts import HAND, OPENING, ROTATION
from v2w_gym.configs.robots import WIDOWX
from v2w_gym.world_models.data.fit import fit_episode
from v2w_gym.world_models.data.sources.opening import open_source, read_one

RNG = np.random.default_rng(0)
ACTIONS = RNG.normal(size=(6, 7)).astype(np.float32)


def write_video(path, length=6, size=(48, 64), rate=5, **options):
    """Write a video whose frame i has the brightness 20 i."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "0", **options})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv444p"
        for step in range(length):
            picture = np.full((*size, 3), 20 * step % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_pictures(folder, names=("2.png", "10.png", "1.png"), size=(48, 64)):
    """Write pictures; picture i of the names has the brightness i."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((*size, 3), i, np.uint8)).save(folder / name)
    return folder


def brightness(frames):
    return frames.mean((1, 2, 3)).round().astype(int).tolist()


def test_a_folder_of_videos_in_the_order_of_their_numbers(tmp_path):
    for name in ("clip_10.mp4", "clip_2.mp4", "more/clip_1.mp4"):
        write_video(tmp_path / name)
    source = open_source(str(tmp_path))
    assert source.ids() == ("clip_2", "clip_10", "more/clip_1")
    episode = next(source.read(1))
    assert (episode.rate, episode.actions, len(episode)) == (5, None, 6)
    assert brightness(episode.frames[np.array([5, 0, 2])]) == pytest.approx([100, 0, 40], abs=2)


@pytest.mark.parametrize("ending", ["npz", "npy"])
@pytest.mark.parametrize("length", [5, 6])
def test_actions_beside_a_video(tmp_path, ending, length):
    write_video(tmp_path / "clip.mp4")
    save = np.save if ending == "npy" else np.savez
    save(tmp_path / f"clip.{ending}", ACTIONS[:length])
    episode = read_one(tmp_path / "clip.mp4")
    np.testing.assert_array_equal(episode.actions, ACTIONS[:5])
    assert episode.action_fields is None
    assert [path.name for path in open_source(str(tmp_path)).files] == [
        "clip.mp4",
        f"clip.{ending}",
    ]


FIELDS = "actions: {world_vector: 'move[0:3]', open_gripper: grip}\nrobot: widowx\nrate: 5\n"


def test_names_of_actions_beside_a_video(tmp_path):
    write_video(tmp_path / "clip.mp4", rate=30)
    np.savez(tmp_path / "clip.npz", move=ACTIONS, grip=ACTIONS[:, 6], other=np.zeros(9))
    (tmp_path / "fields.yaml").write_text(FIELDS)
    source = open_source(str(tmp_path / "clip.mp4"), fields=str(tmp_path / "fields.yaml"))
    episode = next(source.read())
    assert episode.action_fields == (("world_vector", 3), ("open_gripper", 1))
    assert (episode.robot, episode.rate) == ("widowx", 5)
    np.testing.assert_array_equal(episode.actions, ACTIONS[:5, [0, 1, 2, 6]])
    with pytest.raises(
        ValueError, match="no 'action' among the arrays .*'move'.* fields= can name"
    ):
        read_one(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    ("success", "expected"),
    [(np.array(True), [0, 0, 0, 0, 0, 1]), (np.arange(6) > 3, [0, 0, 0, 0, 1, 1])],
    ids=["episode", "frames"],
)
def test_instruction_and_success_beside_a_video(tmp_path, success, expected):
    write_video(tmp_path / "clip.mp4")
    text = np.array("open the drawer")
    np.savez(tmp_path / "clip.npz", action=ACTIONS, text=text, done=success)
    (tmp_path / "fields.yaml").write_text(
        "actions: {world_vector: 'action[0:3]'}\ninstruction: text\nsuccess: done\n"
    )
    source = open_source(str(tmp_path / "clip.mp4"), fields=str(tmp_path / "fields.yaml"))
    episode = next(source.read())
    assert (episode.instruction, episode.success.tolist()) == ("open the drawer", expected)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("instruction: action", r"`action` \(6, 7\) of float32, not text"),
        ("success: action", r"`action` \(6, 7\) of float32, not bool \(6,\)"),
        ("success: dnoe", "no 'dnoe' among the arrays .*; did you mean 'done'"),
        ("frames: image", "fields without frames for .*clip.mp4, .* found 'image'; leave it out"),
    ],
)
def test_fields_that_do_not_fit_a_video(tmp_path, fields, text):
    write_video(tmp_path / "clip.mp4")
    np.savez(tmp_path / "clip.npz", action=ACTIONS, done=np.zeros(6, bool))
    (tmp_path / "fields.yaml").write_text(f"{fields}\n")
    source = open_source(str(tmp_path / "clip.mp4"), fields=str(tmp_path / "fields.yaml"))
    with pytest.raises(ValueError, match=text):
        next(source.read())


def test_another_recording_beside_a_video_is_none_of_its_actions(tmp_path):
    write_video(tmp_path / "clip.mp4")
    np.savez(tmp_path / "clip.npz", image=np.zeros((2, 8, 8, 3), np.uint8))
    np.save(tmp_path / "clip.npy", np.zeros((2, 8, 8, 3), np.uint8))
    assert read_one(tmp_path / "clip.mp4").actions is None


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        (
            ACTIONS[:4],
            "found 4 actions, not 6 or 5; if this is no file of its actions, rename it",
        ),
        (np.full((6, 7), "a"), "not numbers"),
        (np.zeros(6), r"`action` \(6,\)"),
    ],
)
def test_actions_that_do_not_fit_a_video(tmp_path, actions, text):
    write_video(tmp_path / "clip.mp4")
    np.save(tmp_path / "clip.npy", actions)
    with pytest.raises(ValueError, match=f"the actions of clip.mp4 in .*clip.npy, .*{text}"):
        read_one(tmp_path / "clip.mp4")


def test_two_files_of_actions(tmp_path):
    write_video(tmp_path / "clip.mp4")
    np.save(tmp_path / "clip.npy", ACTIONS)
    np.savez(tmp_path / "clip.npz", ACTIONS)
    with pytest.raises(ValueError, match=r"one file of actions .*found clip.npz and clip.npy"):
        read_one(tmp_path / "clip.mp4")


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    "options", [{"g": "1"}, {"g": "2"}, {"g": "12", "bf": "3", "x264-params": "open-gop=1"}]
)
def test_any_frame_of_a_video_is_exact(tmp_path, options, ending):
    """Also where pictures refer to later ones, and across keyframes."""
    path = write_video(tmp_path / f"clip{ending}", 40, **options)
    frames = read_one(path).frames
    whole = frames[:]
    assert brightness(whole) == pytest.approx([20 * step % 256 for step in range(40)], abs=2)
    for steps in (slice(17, 18), slice(39, None), slice(None, None, -3), np.array([30, 2, 30, 29])):
        np.testing.assert_array_equal(frames[steps], whole[steps])
    assert frames[3:3].shape == (0, 48, 64, 3)


def test_pictures_with_numbers_are_one_episode(tmp_path):
    folder = write_pictures(tmp_path / "drawer")
    np.save(tmp_path / "drawer.npy", ACTIONS[:3])
    source = open_source(str(folder))
    assert source.ids() == ("drawer",)
    assert [path.name for path in source.files] == ["1.png", "2.png", "10.png", "drawer.npy"]
    episode = next(source.read())
    assert brightness(episode.frames[:]) == [2, 0, 1]
    assert episode.frames[1:1].shape == (0, 48, 64, 3)
    np.testing.assert_array_equal(episode.actions, ACTIONS[:2])


def test_a_folder_of_folders_holds_many_episodes(tmp_path):
    for name in ("run_10", "run_9", "deep/er"):
        write_pictures(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "run_9" / "._1.png").write_bytes(b"what another system leaves")
    source = open_source(str(tmp_path))
    assert source.ids() == ("deep/er", "run_9", "run_10")
    assert [len(episode) for episode in source.read()] == [3, 3, 3]
    assert len(read_one(f"{tmp_path}#run_9")) == 3


def test_stored_pictures_are_copied_where_every_reader_sees_them_alike(tmp_path):
    folder = write_pictures(tmp_path / "a", ["1.png", "2.jpg", "3.png", "4.png"])
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(RNG.integers(0, 256, (64, 48, 3), np.uint8)).save(folder / "3.png", exif=turned)
    Image.fromarray(np.full((48, 64), 40_000, np.uint16)).save(folder / "4.png")
    frames = read_one(folder).frames
    for step, name in enumerate(("1.png", "2.jpg")):
        assert frames.encoded(step) == (folder / name).read_bytes()
    for step in range(4):
        (tmp_path / "copy").write_bytes(frames.encoded(step))
        with Image.open(tmp_path / "copy") as copy:
            assert copy.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(copy), frames[step : step + 1][0])


def test_pictures_of_several_sizes(tmp_path):
    write_pictures(tmp_path / "a", ["1.png", "2.png"])
    write_pictures(tmp_path / "a", ["3.png"], (24, 32))
    frames = read_one(tmp_path / "a").frames
    assert len(frames[:2]) == 2
    with pytest.raises(ValueError, match=r"one size in .*a, found \(48, 64\) in 1.png .* in 3.png"):
        frames[:]


def test_sources_and_frames_travel_to_other_processes(tmp_path):
    write_video(tmp_path / "a" / "clip.mp4")
    write_pictures(tmp_path / "b")
    np.save(tmp_path / "c.npy", np.zeros((2, 8, 8, 3), np.uint8))
    for name in ("a", "b", "c.npy"):
        source = pickle.loads(pickle.dumps(open_source(str(tmp_path / name))))
        frames = next(source.read()).frames
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))[:], frames[:])


def test_the_present_folder_has_a_name(tmp_path, monkeypatch):
    write_pictures(tmp_path / "drawer")
    np.save(tmp_path / "drawer.npy", ACTIONS[:3])
    monkeypatch.chdir(tmp_path / "drawer")
    source = open_source(".")
    assert (source.name, source.ids()) == ("drawer", ("drawer",))
    assert next(source.read()).actions.shape == (2, 7)


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match="in a known format .*, found none"):
        read_one(tmp_path)


@pytest.mark.skipif("V2W_TEST_DATA" not in os.environ, reason="V2W_TEST_DATA is not set")
def test_real_clips(tmp_path):
    """Bridge, with the ten values of world-model-eval beside each clip."""
    folder = Path(os.environ["V2W_TEST_DATA"]) / "bridge_clips"
    parts = {HAND: "arr_0[0:3]", ROTATION: "arr_0[3:6]", OPENING: "arr_0[6]"}
    (tmp_path / "bridge.yaml").write_text(f"actions: {parts}\nrobot: widowx\nrate: 5\n")
    source = open_source(str(folder), fields=str(tmp_path / "bridge.yaml"))
    assert source.ids() == ("000000000", "000000001")
    for episode in source.read():
        assert episode.actions.shape == (len(episode) - 1, 7)
    assert read_one(f"{folder}#1").actions.shape[1] == 10
    with pytest.raises(ValueError, match="other units|robot's units|as far off"):
        fit_episode(next(source.read()), WIDOWX)
