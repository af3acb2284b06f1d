"""Stored RLDS episodes: small ones, damaged ones, and some that were recorded on a robot."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.rlds_folders import (
    FRACTAL,
    encoded,
    example,
    fractal_episode,
    write_records,
    write_rlds,
)
from tests.saved_models import tensorflow
from v2w_gym.world_models.data.sources.rlds_records import RldsRecord, open_rlds

VECTOR = np.eye(512, dtype=np.float32)[3]
EPISODES = [fractal_episode(steps, "pick coke can", VECTOR, steps) for steps in (3, 1, 2, 4)]


IMAGE = "observation/image"
INSTRUCTION = "observation/natural_language_instruction"
EMBEDDING = "observation/natural_language_embedding"
TFDS = "tensorflow_datasets.core.features"
NO_STEPS = {
    "pythonClassName": f"{TFDS}.features_dict.FeaturesDict",
    "featuresDict": {
        "features": {"a": {"pythonClassName": f"{TFDS}.text_feature.Text", "text": {}}}
    },
}


@pytest.fixture
def folder(tmp_path):
    """Two files of three and one episodes with the features of fractal20220817_data."""
    return write_rlds(tmp_path / "0.1.0", [EPISODES[:3], EPISODES[3:]])


def rewritten(folder: Path, **changes) -> RldsRecord:
    """Return the only episode of a folder that is written again with some features changed."""
    episode = {f"steps/{name.replace('__', '/')}": value for name, value in changes.items()}
    written = {**EPISODES[0], **episode}
    kept = {name: value for name, value in written.items() if value is not None}
    (found,) = open_rlds(write_rlds(folder / "changed", [[kept]]))
    return found


def test_episodes_in_the_order_of_the_files(folder):
    dataset = open_rlds(folder)
    assert (dataset.label, dataset.split) == ("fractal20220817_data 0.1.0", "train")
    assert len(dataset) == 4
    assert [len(episode) for episode in dataset] == [3, 1, 2, 4]
    assert [episode.origin.split()[1] for episode in dataset] == ["0", "1", "2", "0"]


@pytest.mark.parametrize("start", range(5))
def test_reading_from_the_middle(folder, start):
    assert [len(episode) for episode in open_rlds(folder).read(start)] == [3, 1, 2, 4][start:]


def test_an_episode_is_found_again_where_it_was(folder):
    dataset = open_rlds(folder)
    places = [episode.place for episode in dataset.read(1)]
    for number in (2, 0, 1):
        again, written = dataset.read_at(places[number]), EPISODES[number + 1]
        np.testing.assert_array_equal(again.frames(IMAGE), written["steps/observation/image"])
        assert again.origin == str(places[number])
    assert again.origin.endswith("train.tfrecord-00000-of-00002")


def test_every_feature_is_what_was_written(folder):
    for episode, written in zip(open_rlds(folder), EPISODES, strict=True):
        for name, feature in episode.features.items():
            dtype, shape = FRACTAL[feature.path]
            expected = written[feature.path]
            if dtype == "string":
                assert episode.text(name) == (
                    expected if isinstance(expected, list) else [expected] * len(episode)
                )
                continue
            found = episode.frames(name) if dtype == "image" else episode.step(name)
            assert found.shape == (len(episode), *shape)
            assert found.dtype == np.dtype("uint8" if dtype == "image" else dtype)
            np.testing.assert_array_equal(found, expected)


def test_what_an_episode_has_once(folder):
    episode = next(iter(open_rlds(folder)))
    assert episode.value("attributes/location_name") == "kitchen"
    success = episode.value("aspects/success")
    assert (success.shape, success.dtype) == ((), bool)
    assert success == EPISODES[0]["aspects/success"]
    assert "aspects/success" in episode.episode_features
    assert "aspects/success" not in episode.features


def test_only_the_frames_that_are_asked_for_are_decoded(folder):
    good = EPISODES[0]["steps/observation/image"]
    images = [encoded(image, "PNG") for image in good]
    episode = rewritten(folder, observation__image=[images[0], b"no image", images[2]])
    np.testing.assert_array_equal(episode.frames(IMAGE, steps=[2, 0, 2]), good[[2, 0, 2]])
    assert episode.frames(IMAGE, steps=[]).shape == (0, 256, 320, 3)
    with pytest.raises(ValueError, match=r"in steps/observation/image, step 1, record 0 of"):
        episode.frames("observation/image")


def test_jpeg_pixels_are_those_of_tensorflows_fast_transform(folder):
    image = EPISODES[0]["steps/observation/image"][0]
    jpeg = encoded(image, "JPEG")
    found = rewritten(folder, observation__image=[jpeg] * 3).frames(IMAGE)
    decode = tensorflow().io.decode_jpeg
    np.testing.assert_array_equal(found[2], decode(jpeg, dct_method="INTEGER_FAST"))
    assert (found[2] != decode(jpeg, dct_method="INTEGER_ACCURATE").numpy()).any()


def test_damaged_images(folder):
    small = [encoded(np.zeros((4, 4, 3), np.uint8), "PNG")] * 3
    with pytest.raises(ValueError, match=r"an image of 256x320x3 in .* \(4, 4, 3\) is not"):
        rewritten(folder, observation__image=small).frames(IMAGE)
    half = [encoded(EPISODES[0]["steps/observation/image"][0], "JPEG")[:2000]] * 3
    with pytest.raises(ValueError, match=r"an image of .*step 0.*Uncompress failed"):
        rewritten(folder / "half", observation__image=half).frames(IMAGE)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("reward", np.zeros(2, np.float32), "steps/reward at all 3 steps of record 0 .* 2 values"),
        (
            "action__world_vector",
            np.zeros(8, np.float32),
            r"world_vector \(float32\) .* multiple of 3 values .*found 8",
        ),
        ("reward", np.zeros(3, np.int64), r"steps/reward \(float32\) in record 0 .* int64"),
        ("action__terminate_episode", np.zeros(9, np.float32), r"\(int32\) in .* float"),
        ("reward", ["a", "b", "c"], r"steps/reward \(float32\) in .* bytes_list"),
        ("reward", np.zeros(0, np.float32), "steps/reward at all 3 steps .*found 0 values"),
        ("reward", None, "steps/reward at all 3 steps of record 0 .*found 0 values"),
    ],
)
def test_values_that_do_not_fit_their_description(folder, name, value, found):
    episode = rewritten(folder, **{name: value})
    with pytest.raises(ValueError, match=f"expected .*{found}"):
        episode.step(name.replace("__", "/"))


def test_texts_that_do_not_fit_their_description(folder):
    key = "observation__natural_language_instruction"
    with pytest.raises(ValueError, match="UTF-8 in steps/observation/natural_language_instruction"):
        rewritten(folder / "a", **{key: [b"\xff"] * 3}).text(INSTRUCTION)
    with pytest.raises(ValueError, match="instruction at all 3 steps .*found 2"):
        rewritten(folder / "b", **{key: ["a", "b"]}).text(INSTRUCTION)
    with pytest.raises(ValueError, match=r"\(object\) in .* float"):
        rewritten(folder / "c", **{key: np.zeros(3, np.float32)}).text(INSTRUCTION)


def test_a_record_that_is_no_episode_is_named_in_one_short_line(folder):
    write_records(next(folder.glob("*-00000-of-*")), [b"plain text" * 1000] * 3)
    with pytest.raises(
        ValueError, match=r"an episode \(a tf.train.Example\) in record 0 of .*; copy"
    ) as error:
        next(iter(open_rlds(folder))).step("reward")
    assert len(str(error.value)) < 600


def test_unknown_features_and_wrong_readers(folder):
    episode = next(iter(open_rlds(folder)))
    with pytest.raises(ValueError, match="did you mean 'action/world_vector'"):
        episode.step("action/world_vectors")
    with pytest.raises(ValueError, match="did you mean 'observation/image'"):
        episode.frames("observation/imag")
    with pytest.raises(ValueError, match="did you mean 'aspects/success'"):
        episode.value("aspects/succes")
    with pytest.raises(ValueError, match="observation/image of record 0 .* as tensor, found image"):
        episode.step(IMAGE)
    with pytest.raises(ValueError, match="as text, found tensor"):
        episode.text(EMBEDDING)


def test_unknown_split(folder):
    with pytest.raises(ValueError, match=r"found 'trian'; did you mean 'train'"):
        open_rlds(folder, "trian")
    for split in ("train[0]", "train[:2shard", "train[9:]"):
        with pytest.raises(ValueError, match="expected a split of .*such as train"):
            open_rlds(folder, split)


@pytest.mark.parametrize(
    ("split", "lengths"),
    [
        ("train[:1shard]", [3, 1, 2]),
        ("train[1shard:]", [4]),
        ("train[-1shard:]", [4]),
        ("train[0shard:2shard]", [3, 1, 2, 4]),
        ("train[5shard:]", []),
        ("train[1:3]", [1, 2]),
        ("train[:50%]", [3, 1]),
    ],
)
def test_part_of_a_split(folder, split, lengths):
    dataset = open_rlds(folder, split)
    assert len(dataset) == len(lengths)
    assert [len(episode) for episode in dataset] == lengths
    for start, stop in ((1, None), (0, 1), (1, 3), (-1, None)):
        assert [len(episode) for episode in dataset.read(start, stop)] == lengths[start:stop]


def test_missing_files(folder):
    first, second = sorted(folder.glob("*tfrecord*"))
    second.rename(folder / "away")
    with pytest.raises(FileNotFoundError, match=r"read a part: split=train\[0shard:1shard\]"):
        open_rlds(folder)
    (folder / "away").rename(second)
    first.unlink()
    with pytest.raises(FileNotFoundError, match=r"found no .*-00000-of-00002 \(1 are missing\)"):
        open_rlds(folder)
    with pytest.raises(FileNotFoundError, match=r"read a part: split=train\[1shard:2shard\]"):
        open_rlds(folder)
    assert len(open_rlds(folder, "train[1shard:2shard]")) == 1
    second.unlink()
    with pytest.raises(FileNotFoundError, match="copy the missing ones$"):
        open_rlds(folder)


def test_a_file_with_more_or_fewer_records_than_it_should_have(folder):
    path = next(folder.glob("*-00000-of-*"))
    records = [example(episode) for episode in EPISODES]
    write_records(path, records[:2])
    with pytest.raises(ValueError, match="expected 3 records in .*00000-of-00002 .*found 2; copy"):
        list(open_rlds(folder))
    write_records(path, records)
    with pytest.raises(ValueError, match="expected 3 records in .* found more"):
        list(open_rlds(folder))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: data[:-5], "a whole record 2 in .*truncated record"),
        (lambda data: data[:5], "3 records in .* found 0"),
        (lambda data: data[:20] + b"?" + data[21:], "a whole record 0 in .*corrupted record"),
        (lambda data: b'{"featuresDict": {}}', "record 0 in .*even a TFRecord file"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer.*lfs pull"),
    ],
)
def test_damaged_files_are_named(folder, change, found):
    path = next(folder.glob("*-00000-of-*"))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"expected .*{found}") as error:
        list(open_rlds(folder))
    assert path.name in str(error.value)


def test_no_builder_folder(folder, tmp_path):
    assert len(open_rlds(tmp_path)) == 4  # the only version in it
    shutil.copytree(folder, tmp_path / "0.2.0")
    with pytest.raises(ValueError, match=r"one version .*found 2; give one of .*0.1.0, .*0.2.0"):
        open_rlds(tmp_path)
    with pytest.raises(FileNotFoundError, match="give the folder of one version"):
        open_rlds(tmp_path / "nowhere")
    (folder / "features.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"found no features.json"):
        open_rlds(folder)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("dataset_info.json", "{", "TFDS describes in .*dataset_info.json"),
        ("dataset_info.json", '{"name": "a"}', "TFDS describes in .*Invalid version"),
        (
            "dataset_info.json",
            '{"name": "a", "version": "1.0.0", "splits": [], "fileFormat": "array_record"}',
            "TFRecord files in .*found array_record",
        ),
        ("features.json", '{"type": "FeaturesDict", "content": {}}', "with TFDS >= 4.6"),
        ("features.json", "[]", "TFDS describes in .*features.json"),
        ("features.json", json.dumps(NO_STEPS), r"named 'steps'\) .*found \['a'\]"),
    ],
)
def test_damaged_descriptions(folder, name, content, found):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=found):
        open_rlds(folder)


def test_features_that_cannot_be_read_are_named_and_the_others_can(folder):
    description = json.loads((folder / "features.json").read_text())
    steps = description["featuresDict"]["features"]["steps"]["sequence"]["feature"]
    features = steps["featuresDict"]["features"]
    features["sound"] = {
        "pythonClassName": f"{TFDS}.sequence_feature.Sequence",
        "sequence": {"feature": features["reward"], "length": "-1"},
    }
    features["reward"] = {**features["reward"], "tensor": {"dtype": "float32", "encoding": "zlib"}}
    (folder / "features.json").write_text(json.dumps(description))
    episode = next(iter(open_rlds(folder)))
    assert episode.step("is_last").tolist() == [False, False, True]
    for name, kind in (("sound", "Sequence"), ("reward", "Tensor")):
        with pytest.raises(ValueError, match=f"{name} of .* as tensor, found {kind}"):
            episode.step(name)


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_episodes_of_a_widowx(split):
    dataset = open_rlds(_bridge(), split)
    lengths = []
    for episode in dataset:
        lengths.append(len(episode))
        for name, feature in episode.features.items():
            if feature.kind == "image":
                assert episode.frames(name).shape == (len(episode), 64, 64, 3)
            elif feature.kind == "text":
                assert len(set(episode.text(name))) == 1
            else:
                assert np.isfinite(episode.step(name)).all()
        assert episode.step("is_first").tolist() == [True] + [False] * (len(episode) - 1)
        assert episode.step("action").shape == (len(episode), 7)
    assert lengths == [10] * 25
    assert episode.value("episode_metadata/has_language")


def _bridge() -> Path:
    if not (data := os.environ.get("V2W_TEST_DATA")):
        pytest.skip("set V2W_TEST_DATA to a folder with real recordings")
    return Path(data) / "bridge_rlds" / "bridge_dataset" / "1.0.0"
