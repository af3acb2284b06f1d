"""The home folder `~` in paths."""

from pathlib import Path

import pytest

from v2w_gym.configs.text import expand, to_path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_folder_stands_first_and_alone(home: Path) -> None:
    assert expand("~") == str(home)
    assert expand("~/a/b:train[:5]") == str(home / "a/b:train[:5]")
    assert to_path(Path("~/a")) == home / "a"


@pytest.mark.parametrize("word", ["zero", "a~b", "./~", "a/~/b", "ws://host:1", "", "me/run"])
def test_any_other_word_stays(home: Path, word: str) -> None:
    assert expand(word) == word


def test_a_user_that_does_not_exist_is_refused(home: Path) -> None:
    with pytest.raises(ValueError, match=r"no such user; write \./~nobody-of-this-name/x"):
        to_path("~nobody-of-this-name/x")


def test_files_named_in_python_may_be_in_the_home_folder(home: Path) -> None:
    from v2w_gym.evaluation.records.trials import load_trials
    from v2w_gym.world_models.data.sources.opening import read_one
    from v2w_gym.world_models.loading import find_checkpoint

    for read in (load_trials, read_one, find_checkpoint):
        with pytest.raises(FileNotFoundError, match=str(home / "absent.npz")):
            read("~/absent.npz")
