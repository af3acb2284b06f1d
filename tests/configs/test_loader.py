"""Settings: defaults, then files, then overrides; every mistake is named with its origin."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from v2w_gym.configs.loader import load_config
from v2w_gym.configs.policies import PolicyConfig


@dataclass(frozen=True)
class Optimiser:
    rate: float = 0.1
    warmup: int = 5


@dataclass(frozen=True)
class Settings:
    steps: int
    optimiser: Optimiser = Optimiser(rate=0.5)
    mode: Literal["fast", "exact"] = "exact"
    names: list[str] = field(default_factory=lambda: ["a", "b"])
    shares: dict[str, float] = field(default_factory=lambda: {"x": 1.0})
    folder: str | None = None


def write(folder: Path, text: str, name: str = "settings.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_defaults_hold_where_nothing_is_set() -> None:
    assert load_config(Settings, [], ["steps=3"]) == Settings(steps=3)


def test_later_files_win_over_earlier_ones_and_overrides_over_files(tmp_path: Path) -> None:
    first = write(tmp_path, "steps: 1\nmode: fast\noptimiser: {rate: 2}", "first.yaml")
    second = write(tmp_path, "steps: 2\noptimiser: {warmup: 7}", "second.yaml")
    loaded = load_config(Settings, [first, second], ["optimiser.rate=3e-4"])
    assert loaded == Settings(steps=2, mode="fast", optimiser=Optimiser(rate=3e-4, warmup=7))


def test_a_list_is_replaced_and_a_mapping_merged() -> None:
    loaded = load_config(Settings, [], ["steps=1", "names=[c]", "shares.y=2"])
    assert loaded.names == ["c"]
    assert loaded.shares == {"x": 1.0, "y": 2.0}


def test_an_override_may_hold_an_equals_sign_or_nothing() -> None:
    assert load_config(Settings, [], ["steps=1", "folder=a=b"]).folder == "a=b"
    assert load_config(Settings, [], ["steps=1", "folder=x", "folder="]).folder is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepz=1", r"'stepz=1': unknown setting stepz; did you mean 'steps'\?.*steps, optimiser"),
        ("optimiser.rat=1", r"unknown setting optimiser\.rat; did you mean 'rate'\?"),
        ("optimiser={rat: 1}", r"unknown setting optimiser\.rat; did you mean 'rate'\?"),
        (
            "steps=x",
            "'steps=x': cannot set steps: expected a whole number in decimal digits, found 'x'",
        ),
        ("steps=1.5", "cannot set steps"),
        ("steps=", "cannot set steps"),
        ("mode=slow", r"cannot set mode: .*\['fast', 'exact'\]"),
        ("optimiser=3", "'optimiser=3': cannot set"),
        ("names.0.x=c", "'names.0.x=c': cannot set"),
        ("shares.x=much", r"cannot set shares\.x"),
        ("steps", "expected a .yaml file or key=value, found 'steps'"),
        ("=1", "expected a .yaml file or key=value, found '=1'"),
        ("folder={a", "expected 'folder={a' to hold a YAML value"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(Settings, [], ["steps=1", override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 1", "settings.yaml: unknown setting stepz; did you mean 'steps'"),
        ("optimiser: {rat: 1}", r"settings.yaml: unknown setting optimiser\.rat"),
        ("optimiser: {rate: fast}", r"settings.yaml: cannot set optimiser\.rate"),
        ("steps: [1", "expected YAML in .*settings.yaml"),
        ("steps: 1\nsteps: 2", "found duplicate key steps"),
        ("- steps", "expected `key: value` lines in .*settings.yaml"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_config(Settings, [write(tmp_path, text)], [])


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"expected YAML in .*settings\.yaml"):
        load_config(Settings, [str(path)], [])


@pytest.mark.parametrize("name", ["absent.yaml", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="expected a YAML file at .*, found none"):
        load_config(Settings, [str(tmp_path / name)], [])


def test_a_required_setting_that_is_set_nowhere_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected a value for steps, found none; add steps="):
        load_config(Settings, [], [])


@pytest.mark.parametrize("word", ["???", "${steps}", "runs/${oc.env:HOME}", "'${steps}'"])
def test_other_tools_placeholders_are_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot set folder: expected the value itself, without"):
        load_config(Settings, [], ["steps=1", f"folder={word}"])
    with pytest.raises(
        ValueError, match=r"settings\.yaml: cannot set names\[0\]: expected the value"
    ):
        load_config(Settings, [write(tmp_path, f"names: [{word!r}]")], [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: " + "[" * 1000 + "]" * 1000, "at most 20 levels of mappings and lists"),
        ("a: " * 30, "mapping values are not allowed here in line 1"),
        ("names: " + "{a: " * 40_000, "at most 20 levels of mappings and lists"),
        ("1: 2", "unknown setting 1 "),
        ("? [a, b]\n: c", "expected a word as key, found a list or mapping in line 1"),
        ("names: [{a: 1}]", r"cannot set names\[0\]: expected text"),
        ("names: &a [x]\nfolder: *a", "found the anchor or alias 'a' in line 1"),
        ("names: &a [*a]", "found the anchor or alias 'a' in line 1"),
        ("names: [*a]", "found the anchor or alias 'a' in line 1"),
        ("<<: {steps: 1}", "unknown setting <<"),
        ("folder: !!python/object/apply:os.system [ls]", "found the tag 'tag:yaml.org,2002:python"),
        ("steps: !!int 3", "found the tag"),
        ("steps:\n\t- 1", r"found character '\\t' that cannot start any token in line 2"),
        ("steps: 1\n---\nsteps: 2", "expected one document, found a second one in line 2"),
        ("hello", "expected `key: value` lines"),
        ('folder: "a', "unexpected end of stream"),
        ('folder: "a\\0b"', "cannot set folder: expected the value itself, without NUL"),
        ("steps: 1\nstep\x07: 1", "special characters are not allowed"),
        ("steps: 1\n" * 30_000, "expected at most 200000 characters of YAML"),
    ],
)
def test_yaml_that_settings_do_not_use_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        load_config(Settings, [write(tmp_path, text)], [])
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_a_byte_order_mark_and_other_line_ends_are_read_over(tmp_path: Path) -> None:
    assert (
        load_config(Settings, [write(tmp_path, "\ufeffsteps: 3\r\nmode: fast\r\n")], []).steps == 3
    )


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    for text in ("", "# only a comment\n", "---\n{}\n"):
        assert load_config(Settings, [write(tmp_path, text)], ["steps=3"]) == Settings(steps=3)


def test_a_file_that_lacks_a_setting_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lacking.yaml"
    file.write_text("driver:\n  scale: 2\n")
    with pytest.raises(ValueError, match=r"lacking\.yaml: expected a value for source, found none"):
        load_config(PolicyConfig, [str(file)], [])


def test_keys_with_ever_more_points_are_one_line() -> None:
    for key in ("a." * 5000 + "b", "shares." + "a." * 5000 + "b", "shares..a", ".a", "a."):
        with pytest.raises(ValueError, match="unknown setting|cannot set"):
            load_config(Settings, [], ["steps=1", f"{key}=1"])
