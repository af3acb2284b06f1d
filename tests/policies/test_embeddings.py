"""Tables of embeddings: from recordings, with errors, resumed, and extended by an encoder."""

import base64
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.rlds_folders import write_rlds
from v2w_gym.configs.convert import EmbedConfig
from v2w_gym.configs.sources import FRACTAL
from v2w_gym.policies.embeddings import EMBEDDING, Harvest, extend, harvest, make_encoder
from v2w_gym.policies.instructions import embed, make_table
from v2w_gym.world_models.data.sources.rlds_records import RldsDataset, open_rlds

SCHEMA = {"steps/text": ("string", ()), "steps/vector": ("float32", (4,))}
X, Y, Z = np.eye(4, dtype=np.float32)[:3]


def recorded(folder: Path, *shards: list[tuple[list[str], list[np.ndarray]]]) -> RldsDataset:
    """Return a dataset whose episodes have these texts and vectors, one of each a step."""
    episodes = [
        [{"steps/text": texts, "steps/vector": np.array(vectors)} for texts, vectors in shard]
        for shard in shards
    ]
    return open_rlds(write_rlds(folder / "data", episodes, SCHEMA, "by_hand"))


def gather(dataset: RldsDataset, tmp_path: Path, tolerance: float = 1e-5) -> Harvest:
    found = Harvest("text", "vector", tolerance)
    harvest(dataset, found, tmp_path / "kept.npz", save_every=2)
    return found


def test_defaults_are_the_names_of_fractal20220817_data():
    assert EmbedConfig.text_feature == FRACTAL.instruction
    assert EmbedConfig.vector_feature == EMBEDDING


def test_every_instruction_with_its_vector_sorted(tmp_path):
    dataset = recorded(
        tmp_path,
        [(["pick b"] * 2, [Y] * 2), (["pick a", "pick b"], [X, Y])],  # two in one episode
        [(["pick a"], [X]), (["", "  .", "pick c"], [0 * X, 0 * X, Z])],  # empty: no instruction
    )
    found = gather(dataset, tmp_path)
    assert found.table().texts == ("pick a", "pick b", "pick c")
    np.testing.assert_array_equal(found.table().vectors, [X, Y, Z])
    assert found.counts() == {"pick a": 2, "pick b": 2, "pick c": 1}
    assert found.episodes == 4


def test_the_commonest_spelling_counts(tmp_path):
    dataset = recorded(
        tmp_path, [(["Pick A."], [Y]), (["pick a"], [X]), (["pick a"], [X]), (["pick  b"], [Z])]
    )
    found = gather(dataset, tmp_path)
    assert found.table().texts == ("pick a", "pick b")
    np.testing.assert_array_equal(found.table().vectors, [X, Z])
    assert found.counts() == {"pick a": 3, "pick b": 1}


def test_of_equally_common_spellings_the_first_in_the_alphabet_counts(tmp_path):
    found = gather(recorded(tmp_path, [(["pick a"], [X]), (["Pick a"], [Y])]), tmp_path)
    np.testing.assert_array_equal(found.table().vectors, [Y])


def test_two_vectors_of_one_instruction(tmp_path):
    near = X + np.array([0, 1e-4, 0, 0], np.float32)
    dataset = recorded(tmp_path, [(["pick a"], [X])], [(["pick a"], [X]), (["pick a"], [near])])
    with pytest.raises(ValueError) as error:
        gather(dataset, tmp_path)
    message = str(error.value)
    assert "one embedding for 'pick a', found values 0.0001 apart in record 0 of" in message
    assert "-00000-of-00002 and record 1 of" in message
    assert "tolerance=0.0002" in message
    found = gather(dataset, tmp_path, tolerance=2e-4)
    np.testing.assert_array_equal(found.table().vectors, [X])
    assert found.episodes == 3


def test_two_vectors_within_one_episode(tmp_path):
    with pytest.raises(ValueError, match="one embedding for 'pick a'"):
        gather(recorded(tmp_path, [(["pick a"] * 2, [X, Y])]), tmp_path)


@pytest.mark.parametrize("vector", [2 * X, 0 * X, X * np.float32(np.nan)])
def test_vectors_of_another_length_than_one(tmp_path, vector):
    with pytest.raises(ValueError, match="length 1 for 'pick a' in vector of record 0 of.* found"):
        gather(recorded(tmp_path, [(["pick a"], [vector])]), tmp_path)


def test_no_instructions_at_all(tmp_path):
    found = gather(recorded(tmp_path, [([""], [X])]), tmp_path)
    with pytest.raises(ValueError, match="instructions in text, found none in 1 episodes"):
        found.table()


def test_an_interrupted_harvest_goes_on_where_it_stopped(tmp_path, monkeypatch):
    vectors = {"a": X, "b": Y, "c": Z}
    episodes = [([f"pick {name}"], [vectors[name]]) for name in "abcab"]
    dataset = recorded(tmp_path, episodes[:2], episodes[2:])
    kept = tmp_path / "kept.npz"
    found = Harvest("text", "vector", 1e-5)
    add, origins = Harvest.add, []

    def add_until_interrupted(self, episode):
        if len(origins) == 3:
            raise KeyboardInterrupt
        origins.append(episode.origin)
        add(self, episode)

    monkeypatch.setattr(Harvest, "add", add_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        harvest(dataset, found, kept, save_every=1000)
    origins.clear()
    resumed = Harvest("text", "vector", 1e-5)
    harvest(dataset, resumed, kept, save_every=1000)
    assert [origin.split()[1] for origin in origins] == ["1", "2"]  # of the second file
    monkeypatch.undo()
    whole = gather(dataset, tmp_path / "other")
    assert resumed.counts() == whole.counts() == {"pick a": 2, "pick b": 2, "pick c": 1}
    np.testing.assert_array_equal(resumed.table().vectors, whole.table().vectors)
    assert [s.origin for s in resumed.spellings.values()] == [
        s.origin for s in whole.spellings.values()
    ]


def test_what_is_kept_of_another_harvest_is_refused(tmp_path):
    dataset = recorded(tmp_path, [(["pick a"], [X])])
    gather(dataset, tmp_path)
    part = open_rlds(tmp_path / "data", "train[:1shard]")
    with pytest.raises(ValueError, match=r"harvest of 'by_hand 0.1.0 train\[:1shard\].*delete the"):
        gather(part, tmp_path)
    (tmp_path / "kept.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="delete the file"):
        gather(dataset, tmp_path)


TABLE = make_table(["close the drawer", "open the drawer"], 8)


def same_encoder(texts):
    return np.stack([embed(text, 8) for text in texts])


def test_new_texts_are_normalised_encoded_and_sorted_in():
    found = extend(TABLE, ["Lift the CUP!", "open the drawer", "lift the cup"], same_encoder, 0.999)
    assert found.texts == ("close the drawer", "lift the cup", "open the drawer")
    for text in found.texts:
        np.testing.assert_array_equal(found.vectors[found.row(text)], embed(text, 8))


def test_nothing_new():
    assert extend(TABLE, ["Open the drawer."], same_encoder, 0.999) is TABLE


def test_another_encoder_is_refused():
    with pytest.raises(ValueError, match="at least 0.999.*found 0.9[0-9]* for '.* the drawer'"):
        extend(TABLE, ["lift"], lambda texts: tilted(same_encoder(texts)), 0.999)
    with pytest.raises(ValueError, match="vectors of 8 values .*found an encoder of 4"):
        extend(TABLE, ["lift"], lambda texts: np.ones((len(texts), 4), np.float32) / 2, 0.999)


def tilted(vectors):
    turned = vectors + 0.1 * np.roll(vectors, 1, axis=1)
    return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="at least one word"):
        extend(TABLE, ["..."], same_encoder, 0.999)


def test_unknown_encoders(tmp_path):
    with pytest.raises(ValueError, match="encoder=onnx:PATH.*found 'use'"):
        make_encoder("use")
    with pytest.raises(FileNotFoundError, match="an ONNX model at .*none.onnx, found none"):
        make_encoder(f"onnx:{tmp_path / 'none.onnx'}")


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"no onnxruntime; run: pip install '.\[language\]'"
    ):
        make_encoder(f"onnx:{path}")


# Strings to rows of the unit matrix: "pick coke can" to row 0, "place apple" to row 1, others to
# row 2; a LabelEncoder and a Gather.
MODEL = base64.b64decode(
    "CAg6lQIKhAEKBmlucHV0cxIDaWR4IgxMYWJlbEVuY29kZXIqFAoNZGVmYXVsdF9pbnQ2NBgCoAECKi0KDGtleXNfc3"
    "RyaW5nc0oNcGljayBjb2tlIGNhbkoLcGxhY2UgYXBwbGWgAQgqFgoNdmFsdWVzX2ludDY0c0AAQAGgAQc6CmFpLm9u"
    "bngubWwKGQoBVwoDaWR4EgdvdXRwdXRzIgZHYXRoZXISAWcqOwgDCAQQASIwAACAPwAAAAAAAAAAAAAAAAAAAAAAAI"
    "A/AAAAAAAAAAAAAAAAAAAAAAAAgD8AAAAAQgFXWhUKBmlucHV0cxILCgkICBIFCgMSAU5iGgoHb3V0cHV0cxIPCg0I"
    "ARIJCgMSAU4KAggEQgQKABARQg4KCmFpLm9ubngubWwQAg=="
)


@pytest.fixture
def model(tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra `language` is not installed")
    pytest.importorskip("onnxruntime_extensions", reason="the extra `language` is not installed")
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL)
    return path


def test_an_onnx_model(model):
    encode = make_encoder(f"onnx:{model}")
    found = encode(["place apple", "anything", "pick coke can"])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.eye(4)[[1, 2, 0]])


def test_a_damaged_onnx_model(model):
    model.write_bytes(MODEL[:100])
    with pytest.raises(ValueError, match="an ONNX model in .*model.onnx, found"):
        make_encoder(f"onnx:{model}")
