"""Episodes of RLDS data sets: fields, cameras, names and what is refused."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.rlds_folders import Schema, encoded, fractal_episode, write_rlds
from v2w_gym.configs.robots import FRACTAL13, GOOGLE_ROBOT, WIDOWX
from v2w_gym.configs.sources import SOURCES
from v2w_gym.world_models.data.recorded_actions import execute_recorded
from v2w_gym.world_models.data.sources.opening import FORMATS, open_source
from v2w_gym.world_models.data.sources.rlds import recognises
from v2w_gym.world_models.data.sources.rlds_records import open_rlds
from v2w_gym.world_models.data.sources.selection import load_ids, select
from v2w_gym.world_models.data.tensorflow import import_tfds

EPISODES = [
    fractal_episode(steps, "pick coke can", np.eye(512, dtype=np.float32)[0], steps)
    for steps in (3, 1, 2, 4)
]
OWN: Schema = {
    "steps/action": ("float32", (7,)),
    "steps/observation/wrist": ("image", (8, 8, 3)),
    "steps/observation/front": ("image", (8, 8, 3)),
    "steps/observation/depth": ("image", (8, 8, 1)),
    "steps/language_instruction": ("string", ()),
    "steps/solved": ("bool", ()),
    "name": ("string", ()),
    "success": ("bool", ()),
}
YAML = """\
frames: observation/front
actions: {world_vector: "action[0:3]", rotation_delta: "action[3:6]", open_gripper: "action[6]"}
instruction: language_instruction
success: solved
id: name
rate: 10
robot: widowx
"""


def own_episode(name: str, steps: int = 3) -> dict[str, Any]:
    rng = np.random.default_rng(steps)
    pictures = rng.integers(1, 256, (2, steps, 8, 8, 3), np.uint8)
    return {
        "steps/action": rng.normal(size=(steps, 7)).astype(np.float32),
        "steps/observation/wrist": pictures[0],
        "steps/observation/front": pictures[1],
        "steps/observation/depth": pictures[1, ..., :1].repeat(1, axis=-1),
        "steps/language_instruction": ["", *["lift it"] * (steps - 1)],
        "steps/solved": np.arange(steps) == steps - 1,
        "name": name,
        "success": np.ones((), bool),
    }


def write_own(folder: Path, *episodes: Mapping[str, Any]) -> Path:
    written = [
        {**episode, "steps/observation/depth": [encoded(p[..., 0], "PNG") for p in depth]}
        for episode in episodes
        for depth in [episode["steps/observation/depth"]]
    ]
    return write_rlds(folder / "my_robot" / "1.0.0", [written], OWN, "my_robot")


@pytest.fixture
def fractal(tmp_path: Path) -> Path:
    return write_rlds(tmp_path / "fractal20220817_data" / "0.1.0", [EPISODES[:3], EPISODES[3:]])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.yaml").write_text(YAML)
    return write_own(tmp_path, own_episode("one"), own_episode("two", 2))


def test_what_an_episode_of_fractal_holds(fractal: Path):
    source = open_source(str(fractal))
    assert source.name == "fractal20220817_data 0.1.0, train"
    assert (len(source), source.files) == (4, tuple(sorted(fractal.glob("*tfrecord*"))))
    for number, (episode, written) in enumerate(zip(source.read(), EPISODES, strict=True)):
        assert episode.id == f"train_eps_{number:08d}"
        assert len(episode) == len(written["steps/is_last"])
        pictures = written["steps/observation/image"]
        np.testing.assert_array_equal(episode.frames[:], pictures)
        np.testing.assert_array_equal(episode.frames[np.array([0, -1])], pictures[[0, -1]])
        assert episode.frames.encoded(0) == encoded(pictures[0], "PNG")
        assert episode.actions.shape == (len(episode) - 1, 13)
        assert episode.action_fields == FRACTAL13.fields
        for name, part in FRACTAL13.slices.items():
            np.testing.assert_array_equal(
                episode.actions[:, part], written[f"steps/action/{name}"][:-1]
            )
        assert (episode.instruction, episode.camera) == ("pick coke can", "")
        assert (episode.rate, episode.robot) == (3, GOOGLE_ROBOT.name)
        assert episode.success is None


def test_parts_of_splits_keep_the_names_of_the_whole(fractal: Path):
    names = [f"train_eps_{number:08d}" for number in range(4)]
    for split, wanted in (("", [0, 1, 2, 3]), (":train[1shard:]", [3]), (":train[1:3]", [1, 2])):
        source = open_source(f"{fractal}{split}")
        assert source.ids() == [episode.id for episode in source.read()]
        assert source.ids() == [names[number] for number in wanted]
    assert [episode.id for episode in open_source(str(fractal)).read(2, 4)] == names[2:]


def test_a_published_list_selects_the_held_out_episodes(fractal: Path, tmp_path: Path):
    path = tmp_path / "val_file_list.json"
    path.write_text(json.dumps(["train_eps_00000003.npz", "train_eps_00000001.npz"]))
    source, names = open_source(str(fractal)), load_ids([str(path)])
    assert [len(episode) for episode in select(source, ids=names).read()] == [1, 4]
    assert [len(episode) for episode in select(source, excluded=names).read()] == [3, 2]


@pytest.mark.parametrize("ordered", [False, True])
def test_published_names_count_the_episodes_as_tfds_yields_them(tmp_path: Path, ordered: bool):
    lengths = [*np.random.default_rng(0).integers(1, 40, 21).tolist(), 16, 32, 1, 40, 15, 17]
    shards = [
        [
            {"steps/is_last": np.ones(1, bool), "record": np.array([1000 * shard + number])}
            for number in range(length)
        ]
        for shard, length in enumerate(lengths)
    ]
    schema: Schema = {"steps/is_last": ("bool", ()), "record": ("int64", ())}
    folder = write_rlds(tmp_path / "0.1.0", shards, schema)
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "disableShuffling": ordered}))
    builder = import_tfds().builder_from_directory(folder)
    yielded = [int(episode["record"]) for episode in builder.as_dataset(split="train")]
    assert (yielded == sorted(yielded)) is ordered
    names = {record: f"train_eps_{number:08d}" for number, record in enumerate(yielded)}
    for split, start in (("train", 0), ("train[20shard:]", 20)):
        found = {
            int(record.value("record")): record.place.id for record in open_rlds(folder, split)
        }
        assert found == {r: name for r, name in names.items() if r >= 1000 * start}


def test_a_yaml_file_describes_any_data_set(own: Path, tmp_path: Path):
    source = open_source(str(own), fields=str(tmp_path / "own.yaml"))
    first, second = source.read()
    assert source.ids() == [first.id, second.id] == ["one", "two"]
    written = own_episode("one")
    assert (first.camera, first.instruction, first.rate) == ("front", "lift it", 10)
    np.testing.assert_array_equal(first.actions, written["steps/action"][:-1])
    assert first.action_fields == tuple((field.name, field.size) for field in WIDOWX.fields)
    assert first.success.tolist() == [False, False, True]
    wrist = next(open_source(str(own), fields=str(tmp_path / "own.yaml"), camera="wrist").read())
    assert wrist.camera == "wrist"
    np.testing.assert_array_equal(wrist.frames[:], written["steps/observation/wrist"])


def test_a_bool_is_one_action_value(tmp_path: Path):
    schema: Schema = {
        "steps/action/open_gripper": ("bool", ()),
        "steps/action/rotation_delta": ("float32", (3,)),
        "steps/action/terminate_episode": ("float32", ()),
        "steps/action/world_vector": ("float32", (3,)),
        "steps/observation/image": ("image", (8, 8, 3)),
        "steps/observation/natural_language_instruction": ("string", ()),
    }
    rng = np.random.default_rng(0)
    written = {
        "steps/action/open_gripper": np.array([True, False, True]),
        "steps/action/rotation_delta": np.full((3, 3), 0.1, np.float32),
        "steps/action/terminate_episode": np.zeros(3, np.float32),
        "steps/action/world_vector": np.full((3, 3), 0.02, np.float32),
        "steps/observation/image": rng.integers(0, 256, (3, 8, 8, 3), np.uint8),
        "steps/observation/natural_language_instruction": ["lift it"] * 3,
    }
    folder = write_rlds(tmp_path / "bridge" / "0.1.0", [[written]], schema, "bridge")
    (episode,) = open_source(str(folder)).read()
    row = [0.02] * 3 + [0.1] * 3
    expected = np.array([[*row, 1], [*row, 0]], np.float32)
    np.testing.assert_array_equal(episode.actions, expected)
    assert (episode.robot, episode.instruction, episode.camera) == ("widowx", "lift it", "")


def test_a_success_of_the_whole_episode_is_that_of_its_last_frame(own: Path, tmp_path: Path):
    path = tmp_path / "whole.yaml"
    path.write_text("frames: observation/front\nsuccess: success\n")
    first, second = open_source(str(own), fields=str(path)).read()
    assert first.success.tolist() == [False, False, True]
    assert second.success.tolist() == [False, True]
    assert (first.actions.shape, first.action_fields, first.instruction) == ((2, 7), None, None)
    assert first.id == "my_robot-train.tfrecord-00000-of-00001__0"


def test_no_picture_is_decoded_before_it_is_asked_for(tmp_path: Path):
    bad = {**own_episode("one"), "steps/observation/front": [b"a", b"b", b"c"]}
    (tmp_path / "own.yaml").write_text(YAML)
    (episode,) = open_source(
        str(write_own(tmp_path, bad)), fields=str(tmp_path / "own.yaml")
    ).read()
    assert (episode.instruction, len(episode)) == ("lift it", 3)
    assert episode.frames.encoded(1) == b"b"
    with pytest.raises(ValueError, match=r"an image of 8x8x3 in .*front, step 2, record 0"):
        episode.frames[2:]


def test_an_episode_without_the_camera_is_refused_and_the_next_can_be_read(tmp_path: Path):
    black = {**own_episode("one"), "steps/observation/front": np.zeros((3, 8, 8, 3), np.uint8)}
    (tmp_path / "own.yaml").write_text(YAML)
    folder = write_own(tmp_path, black, own_episode("two"))
    source = open_source(str(folder), fields=str(tmp_path / "own.yaml"))
    with pytest.raises(ValueError, match=r"front of record 0 of .* found 3 black ones"):
        next(source.read())
    assert next(source.read(1)).id == "two"


def test_a_data_set_without_known_fields_shows_how_to_describe_it(own: Path, tmp_path: Path):
    with pytest.raises(ValueError) as error:
        open_source(str(own))
    message = str(error.value)
    assert "found my_robot with action (float32 7), " in message
    assert "observation/front (image 8 8 3)" in message and "\n" not in message
    suggested = message[message.index("{frames") : message.index(", and give fields=FILE.yaml")]
    path = tmp_path / "suggested.yaml"
    path.write_text(suggested)
    (episode, _) = open_source(str(own), fields=str(path)).read()
    assert episode.action_fields == (("FIELD_OF_THE_ROBOT", 7),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("observation/front", "observation/fornt"), "did you mean 'observation/front'"),
        (("observation/front", "observation/depth"), "frames .* in 'observation/depth', found"),
        (("action[0:3]", "actoin[0:3]"), "found 'actoin'; did you mean 'action'"),
        (("action[6]", "action[7]"), r"action\[7:8\] within action, found 7 values"),
        (("action[6]", "observation/front"), "expected numbers in steps/observation/front"),
        (("action[6]", "action[x]"), "found 'action.x.'"),
        (("instruction: lang", "instruction: long"), "found 'longuage_instruction'; did you"),
        (("solved", "slved"), "found 'slved'; did you mean 'solved'"),
    ],
)
def test_fields_that_the_data_set_lacks(own: Path, tmp_path: Path, changes, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(YAML.replace(*changes))
    with pytest.raises(ValueError, match=f"fields do not fit my_robot.*{message}"):
        open_source(str(own), fields=str(path))


def test_a_known_name_with_the_fields_of_another_says_which(fractal: Path):
    with pytest.raises(ValueError, match="has those of fractal20220817_data: expected the f"):
        open_source(str(fractal), fields="bridge_dataset")
    with pytest.raises(ValueError, match="found 'bridge_datset'; did you mean 'bridge_dataset'"):
        open_source(str(fractal), fields="bridge_datset")


def test_what_is_recognised(fractal: Path, tmp_path: Path):
    assert recognises(fractal) and recognises(fractal.parent)
    assert not recognises(tmp_path) and not recognises(fractal / "features.json")
    assert open_source(str(fractal.parent)).ids() == open_source(str(fractal)).ids()
    with pytest.raises(ValueError, match="split of fractal20220817_data .*; did you mean 'train'"):
        open_source(f"{fractal}:trian")
    assert len(open_source(f"{fractal}:train[5shard:]")) == 0
    assert "rlds" in FORMATS


def test_without_a_split_the_only_one_is_read(tmp_path: Path):
    folder = write_rlds(tmp_path / "0.1.0", [EPISODES[:1]], split="demos")
    assert open_source(str(folder)).name.endswith("demos")
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"].append({**info["splits"][0], "name": "more"})
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"a split .* after a colon, .*one of \['demos', 'more'\]"):
        open_source(str(folder))


def test_a_cut_file_ends_the_reading_in_one_line(fractal: Path):
    path = next(fractal.glob("*-00000-of-*"))
    path.write_bytes(path.read_bytes()[:-5])
    episodes = open_source(str(fractal)).read()
    assert [next(episodes).id[-1], next(episodes).id[-1]] == ["0", "1"]
    with pytest.raises(ValueError, match=r"a whole record 2 in .*-00000-of-00002.*; copy it again"):
        next(episodes)
    assert [episode.id[-1] for episode in open_source(str(fractal)).read(3)] == ["3"]


def test_missing_tensorflow_is_named(fractal: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"run: pip install '.\[tensorflow\]'"):
        open_source(str(fractal))


@pytest.mark.parametrize("name", SOURCES)
def test_known_fields_are_those_of_their_robot(name: str):
    fields = SOURCES[name]
    if fields.robot:
        robot = {"google_robot": GOOGLE_ROBOT, "widowx": WIDOWX}[fields.robot]
        assert list(fields.actions) == [field.name for field in robot.fields]
        assert fields.rate == robot.control_hz


@pytest.mark.parametrize(("split", "camera"), [("train", ""), ("val", "image_2")])
def test_real_episodes_of_a_widowx(split: str, camera: str):
    source = open_source(f"{_bridge()}:{split}", camera=camera)
    assert source.ids()[3] == f"bridge_dataset-{split}.tfrecord-00000-of-00001__3"
    clipped = 0
    for episode in source.read():
        assert episode.frames[:].shape == (10, 64, 64, 3)
        assert episode.frames.encoded(9).startswith(b"\xff\xd8")
        assert (episode.camera, episode.robot) == (camera or "image_0", "widowx")
        assert episode.instruction
        executed, misfits = execute_recorded(episode.actions, WIDOWX, episode.id)
        assert executed.shape == (9, 7)
        clipped += misfits.clipped
    assert clipped < 0.01 * len(source) * 63


def test_the_fourth_camera_of_real_episodes_is_black():
    with pytest.raises(ValueError, match="image_3 of record 0 of .*found 10 black ones"):
        next(open_source(_bridge(), camera="image_3").read())
    with pytest.raises(ValueError, match="one of .*'image_0'.*found 'image_4'; did you mean"):
        open_source(_bridge(), camera="image_4")


def _bridge() -> str:
    if not (data := os.environ.get("V2W_TEST_DATA")):
        pytest.skip("set V2W_TEST_DATA to a folder with real recordings")
    return f"{data}/bridge_rlds/bridge_dataset"
