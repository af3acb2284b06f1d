"""`v2w embed`."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.rlds_folders import fractal_episode, write_rlds
from v2w_gym.configs.convert import EmbedConfig
from v2w_gym.policies.instructions import embed, load_table, make_table, save_table
from v2w_gym.scripts.embed import main

TEXTS = ("place apple", "pick coke can")
REAL = (
    "put carrot on plate",
    "put cup from counter or drying rack into sink",
    "flip pot upright which is in sink",
)


@pytest.fixture
def cfg(tmp_path: Path) -> EmbedConfig:
    """Two episodes with the features of fractal20220817_data."""
    episodes = [fractal_episode(2, text, embed(text, 512)) for text in TEXTS]
    source = write_rlds(tmp_path / "0.1.0", [episodes[:1], episodes[1:]])
    return EmbedConfig(source=str(source), output=str(tmp_path / "out" / "known.safetensors"))


def test_a_table_from_recordings(cfg: EmbedConfig, capsys: pytest.CaptureFixture[str]) -> None:
    main(cfg)
    table = load_table(Path(cfg.output))
    assert table.texts == tuple(sorted(TEXTS))
    np.testing.assert_array_equal(table.vectors, [embed(text, 512) for text in table.texts])
    assert "2 instructions, vectors of 512" in capsys.readouterr().out
    assert sorted(path.name for path in Path(cfg.output).parent.iterdir()) == [
        "known.json",
        "known.safetensors",
    ]
    source = json.loads(Path(cfg.output).with_suffix(".json").read_text())["source"]
    assert source["dataset"] == "fractal20220817_data 0.1.0"
    assert source["episodes"] == 2
    assert source["counts"] == {"pick coke can": 1, "place apple": 1}


def test_part_of_the_recordings(cfg: EmbedConfig) -> None:
    main(replace(cfg, source=f"{cfg.source}:train[:1shard]"))
    assert load_table(Path(cfg.output)).texts == ("place apple",)


def test_a_table_is_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "known.safetensors"
    save_table(path, make_table(TEXTS, 8), {"dataset": "by hand"})
    monkeypatch.setattr(
        "v2w_gym.policies.embeddings.make_encoder",
        lambda name: lambda texts: np.stack([embed(text, 8) for text in texts]),
    )
    cfg = EmbedConfig(str(path), str(path), texts=["Lift the cup.", TEXTS[0]], encoder="onnx:a")
    main(cfg)
    assert load_table(path).texts == ("lift the cup", "pick coke can", "place apple")
    assert "2 came from" in capsys.readouterr().out
    source = json.loads(path.with_suffix(".json").read_text())["source"]
    assert source == {
        "encoder": "onnx:a",
        "encoded": ["lift the cup"],
        "rest": {"dataset": "by hand"},
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "known.npz"}, "output to end with .safetensors"),
        ({"texts": ["a"]}, "texts and encoder together"),
        ({"encoder": "onnx:a"}, "texts and encoder together"),
        ({"encoder": "use", "texts": ["a"]}, "encoder=onnx:PATH"),
        ({"save_every": 0}, "expected save_every >= 1, found 0"),
        ({"vector_feature": "observation/embedding"}, "feature of record 0"),
    ],
)
def test_impossible_settings_write_no_table(
    cfg: EmbedConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        main(replace(cfg, **changes))
    assert not list(Path(cfg.output).parent.glob("*"))


def test_a_table_as_source_needs_texts(tmp_path: Path) -> None:
    path = tmp_path / "known.safetensors"
    save_table(path, make_table(TEXTS, 8), {})
    with pytest.raises(ValueError, match="texts and encoder to extend the table"):
        main(EmbedConfig(str(path), str(path)))


def test_real_recordings_with_real_embeddings(tmp_path: Path) -> None:
    if not (data := os.environ.get("V2W_TEST_DATA")):
        pytest.skip("set V2W_TEST_DATA to a folder with real recordings")
    output = tmp_path / "bridge.safetensors"
    main(
        EmbedConfig(
            source=f"{data}/bridge_rlds/bridge_dataset/1.0.0",
            output=str(output),
            text_feature="language_instruction",
            vector_feature="language_embedding",
        )
    )
    table = load_table(output)
    assert table.vectors.shape == (4, 512)
    assert table.texts[1] == "put carrot on plate"
    cosines = table.vectors @ table.vectors.T
    assert cosines.diagonal() == pytest.approx(1, abs=1e-5)
    carrot, cup, pot = (table.row(text) for text in REAL)
    assert cosines[pot, cup] > cosines[pot, carrot]  # the first two speak of a sink
