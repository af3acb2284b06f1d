"""`v2w collect`."""

from pathlib import Path

import pytest

from v2w_gym.scripts import cli
from v2w_gym.standin.collect import episode_path
from v2w_gym.world_models.data.labelled import list_labelled, load_labelled


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tasks=[clos_drawer]", "did you mean 'close_drawer'?"),
        ("behaviours.expert=2", "expected behaviours with shares that sum to 1"),
    ],
)
def test_impossible_settings_record_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    output = tmp_path / "episodes"
    assert cli.main(["collect", f"output={output}", word]) == 2
    assert message in capsys.readouterr().err
    assert not output.exists()


def test_what_was_recorded_before_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("metaworld", reason="the stand-in robot is not installed")
    kept = episode_path(tmp_path, "close_drawer", 7)
    kept.parent.mkdir()
    kept.write_text("recorded before")
    words = ["tasks=[close_drawer]", "workers=1", "first_seed=7", "episodes=2"]
    assert cli.main(["collect", f"output={tmp_path}", *words]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    first, second = list_labelled([tmp_path])
    assert first.read_text() == "recorded before"
    assert load_labelled(second).seed == 8
