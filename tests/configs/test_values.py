"""Values of settings: types decide how text is read, and every number has a range."""

import importlib
import math
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
import pytest

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import GateConfig, RankConfig, RolloutConfig, TrialsConfig
from v2w_gym.configs.loader import default_of, load_config
from v2w_gym.configs.policies import PolicyConfig
from v2w_gym.configs.rules import Range, SomeOf
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.configs.train import (
    JudgeTrainConfig,
    TrainConfig,
    TrainPlannerConfig,
)
from v2w_gym.configs.values import Plain, Settings, to_value, types_of
from v2w_gym.scripts import cli

MODULES = [
    importlib.import_module(f"v2w_gym.configs.{path.stem}")
    for path in sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
]
SCHEMAS = {
    schema
    for module in MODULES
    for schema in vars(module).values()
    if isinstance(schema, type) and is_dataclass(schema) and schema.__name__.endswith("Config")
}


def numbers_without_range(kind: Any) -> bool:
    """Whether a type has a bare int or float in it."""
    if get_origin(kind) is Annotated:
        inner, rule = get_args(kind)
        return not isinstance(rule, Range | SomeOf) and numbers_without_range(inner)
    return kind in (int, float) or any(map(numbers_without_range, get_args(kind)))


def test_the_walk_finds_a_number_without_a_range() -> None:
    bare = (int, float | None, list[int], dict[str, float], tuple[int, ...], int | str)
    assert all(map(numbers_without_range, bare))
    ruled = Annotated[int, Range(0, 1)]
    assert not any(map(numbers_without_range, (ruled, ruled | None, list[ruled], str, bool)))


def test_all_commands_have_a_schema_that_is_walked() -> None:
    assert {cli.load_command(name).SCHEMA for name in cli.COMMANDS} <= SCHEMAS


@pytest.mark.parametrize("schema", sorted(SCHEMAS, key=lambda schema: schema.__name__))
def test_every_number_of_every_config_declares_its_range(schema: type) -> None:
    assert issubclass(schema, Settings)
    bare = [name for name, kind in types_of(schema).items() if numbers_without_range(kind)]
    assert bare == []


TEXTS = ["010", "no", "on", "1e3", "1_000", "0x10", "12:30:45", "2024_11_28", "2024-11-28", "True"]
TEXTS += ["null", "~x y", "a: b", "a #b", "a=b", "1.0", ".5", "-", "&a", "*a", "!t", "%", "@x", "é"]


@dataclass(frozen=True)
class Kinds(Settings):
    text: str = ""
    texts: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    maybe: str | None = None
    whole: Annotated[int, Range(-10, 1000)] = 0
    number: Annotated[float, Range(-1e9, 1e9)] = 0.0
    switch: bool = False
    mode: Literal["on", "off"] = "on"
    either: Annotated[int, Range(0, 100)] | str = 0
    pair: tuple[Annotated[int, Range(1, 9)], Annotated[int, Range(1, 9)]] = (1, 1)
    any: dict[str, Any] = field(default_factory=dict)


def read(word: str) -> Kinds:
    return load_config(Kinds, [], [word])


def read_file(folder: Path, text: str) -> Kinds:
    path = folder / "kinds.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(Kinds, [str(path)], [])


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_what_was_typed(text: str) -> None:
    assert read(f"text={text}").text == text
    assert read(f"named.a={text}").named == {"a": text}


@pytest.mark.parametrize("text", TEXTS[:11])
def test_text_without_quotes_in_yaml_is_what_was_written(tmp_path: Path, text: str) -> None:
    found = read_file(tmp_path, f"text: {text}\ntexts: [{text}]\nnamed: {{{text}: {text}}}")
    assert (found.text, found.texts, found.named) == (text, [text], {text: text})
    assert read(f"texts=[{text}]").texts == [text]


def test_nothing_is_meant_only_where_nothing_may_be(tmp_path: Path) -> None:
    assert [read(f"maybe={word}").maybe for word in ("null", "~", "")] == [None] * 3
    assert [read(f"maybe={word}").maybe for word in ('"null"', "'~'", "None", "nil")] == [
        "null",
        "~",
        "None",
        "nil",
    ]
    assert read_file(tmp_path, "maybe: null\ntext: 'null'").text == "null"
    with pytest.raises(ValueError, match="cannot set text: expected text, found nothing"):
        read("text=")


@pytest.mark.parametrize(
    ("word", "text"),
    [('"a b"', "a b"), ("'10'", "10"), ("'tis", "'tis"), ('"a" and "b"', '"a" and "b"')],
)
def test_quotes_around_the_whole_value_are_taken_off(word: str, text: str) -> None:
    assert read(f"text={word}").text == text
    assert read(f"either={word}").either == text


def test_a_whole_number_is_decimal() -> None:
    assert [read(f"whole={word}").whole for word in ("010", "-7", "+7", "0")] == [10, -7, 7, 0]


@pytest.mark.parametrize(
    "word", ["0x10", "1_000", "1e2", "1.0", "yes", "'1'", "\u0661", "", "null"]
)
def test_what_is_no_whole_number_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="cannot set whole: expected a whole number in decimal"):
        read(f"whole={word}")


def test_numbers_may_have_an_exponent() -> None:
    assert [read(f"number={word}").number for word in ("1e-4", "3", ".5", "5.", "-1E+3")] == [
        1e-4,
        3.0,
        0.5,
        5.0,
        -1000.0,
    ]


@pytest.mark.parametrize("word", ["nan", "inf", ".nan", "1e9999", "1_0.0", "0x1p3", "12:30", "'1'"])
def test_what_is_no_finite_number_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="cannot set number: expected a (finite )?number"):
        read(f"number={word}")


def test_a_switch_is_true_or_false() -> None:
    words = ["true", "True", "TRUE", "false", "False"]
    assert [read(f"switch={word}").switch for word in words] == [True, True, True, False, False]


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "1", "0", "y", "", "'true'"])
def test_other_words_for_a_switch_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match="cannot set switch: expected true or false"):
        read(f"switch={word}")


def test_a_choice_is_text_too() -> None:
    assert read("mode=off").mode == "off"
    with pytest.raises(ValueError, match=r"cannot set mode: expected one of \['on', 'off'\]"):
        read("mode=false")


def test_a_number_or_a_text() -> None:
    found = [read(f"either={word}").either for word in ("7", "007", "1_0", "7.npz")]
    assert found == [7, 7, "1_0", "7.npz"]


def test_values_of_no_declared_type_are_read_as_yaml_1_2() -> None:
    words = "a: 10, b: 1e-3, c: true, d: null, e: no, f: 1_000, g: '10', h: [1, x], i: {j: 2}"
    assert read(f"any={{{words}}}").any == {
        **{"a": 10, "b": 0.001, "c": True, "d": None, "e": "no", "f": "1_000", "g": "10"},
        **{"h": [1, "x"], "i": {"j": 2}},
    }


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("texts=a", r"cannot set texts: expected a list such as \[a, b\], found 'a'"),
        ("texts=[a, {b: c}]", r"cannot set texts\[1\]: expected text, found \{'b': 'c'\}"),
        ("texts=[null, ]", None),
        ("named=[a]", r"cannot set named: expected a mapping"),
        ("pair=[1]", "cannot set pair: expected a list of 2"),
        ("pair=[1, 10]", r"expected pair\[1\] <= 9, found 10"),
        ("any={a: '${HOME}'}", r"cannot set any\.a: expected the value itself"),
        ("any={a: ['???']}", r"cannot set any\.a: expected the value itself"),
        ("either=101", "expected either <= 100, found 101"),
        ("whole=1001", "expected whole <= 1000, found 1001"),
        ("whole=-11", "expected whole >= -10, found -11"),
        ("whole=" + "9" * 5000, "cannot set whole: expected a whole number"),
        ("text=[a]", r"cannot set text: expected text, found \['a'\]"),
    ],
)
def test_a_value_of_another_kind_is_refused(word: str, message: str | None) -> None:
    if message is None:
        assert read(word).texts == ["null"]
        return
    with pytest.raises(ValueError, match=message):
        read(word)


@pytest.mark.parametrize("schema", [TrainConfig, JudgeTrainConfig, TrainPlannerConfig, GateConfig])
def test_no_folder_of_episodes_is_refused_before_the_work(schema: type[Any]) -> None:
    for name in {"episodes", "held_out"} & {setting.name for setting in fields(schema)}:
        with pytest.raises(ValueError, match=f"cannot set {name}: expected at least one entry"):
            load_config(schema, [], [f"{name}=[]"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 10**12}, "expected seeds <= 10000, found 1000000000000"),
        ({"batch_size": 10**12}, "expected batch_size <= 65536"),
        ({"starts": True}, "cannot set starts: expected a whole number"),
        ({"starts": 1.5}, "cannot set starts: expected a whole number"),
        ({"starts": "3"}, "cannot set starts: expected a whole number"),
        (
            {"tasks": ["a", "b", "a"]},
            "cannot set tasks: expected every entry once, found 'a' twice",
        ),
        ({"tasks": []}, "cannot set tasks: expected at least one entry, found none"),
        ({"tasks": "close_drawer"}, "cannot set tasks: expected a list"),
        ({"output": 3}, "cannot set output: expected text, found 3"),
        ({"output": "${HOME}/a"}, "cannot set output: expected the value itself"),
        ({"output": "a\0b"}, "cannot set output: expected the value itself"),
        ({"sampler": {"stepz": 1}}, "unknown setting sampler.stepz; did you mean 'steps'"),
        ({"sampler": {"eta": 5}}, "expected sampler.eta <= 1, found 5"),
        ({"sampler": {"steps": "10"}}, "cannot set sampler.steps: expected a whole number"),
        ({"sampler": 3}, "cannot set sampler: expected settings by name, found 3"),
    ],
)
def test_a_config_built_in_python_is_checked_as_one_that_is_read(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RankConfig(), **change)


@pytest.mark.parametrize(
    "change",
    [
        {"eta": 5},
        {"guidance_scale": -3},
        {"steps": 10**11},
        {"history_noise_level": -1},
        {"guidance_scale": math.nan},
        {"clip_keep": math.inf},
        {"guidance_scale": 10**400},
    ],
)
def test_a_sampler_out_of_range_cannot_be_built(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SamplerConfig(**change)


def test_numpys_numbers_and_pathlibs_paths_are_taken() -> None:
    cfg = RankConfig(output=Path("a/b"), starts=np.int64(3), policies=("zero",))  # type: ignore
    assert (cfg.output, cfg.starts, cfg.policies) == ("a/b", 3, ["zero"])
    assert type(cfg.starts) is int
    assert SamplerConfig(eta=np.float32(0.5)).eta == 0.5


@pytest.mark.parametrize("settings", ["{stepz: 1}", "{steps: 0}", "[1]", "{steps: {a: 1}}"])
def test_candidates_are_checked_with_the_rest(settings: str) -> None:
    with pytest.raises(ValueError, match=r"candidates\.fast"):
        load_config(FidelityConfig, [], [f"candidates.fast={settings}"])
    read = load_config(FidelityConfig, [], ["candidates={fast: {steps: 10}, x: draft}"])
    assert read.candidates == {"fast": {"steps": 10}, "x": "draft"}


def test_the_home_folder_stands_wherever_a_path_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    built = RankConfig(output="~/runs", policies=["~/p.safetensors", "zero"], judge="~")
    file = tmp_path / "a.yaml"
    file.write_text("output: ~/runs\npolicies: [~/p.safetensors, zero]\njudge: '~'")
    words = ["output=~/runs", "policies=[~/p.safetensors, zero]", "judge='~'"]
    for cfg in (
        built,
        load_config(RankConfig, ["~/a.yaml"], []),
        load_config(RankConfig, [], words),
    ):
        assert cfg.output == str(tmp_path / "runs")
        assert cfg.policies == [str(tmp_path / "p.safetensors"), "zero"]
        assert cfg.judge == str(tmp_path)
    assert RolloutConfig(start="~/x.npz").start == str(tmp_path / "x.npz")
    assert RolloutConfig(instruction="~ left").instruction == "~ left"
    with pytest.raises(ValueError, match="cannot set output: expected the home folder of a user"):
        TrialsConfig(output="~nobody-of-this-name/x")


def test_a_name_that_tables_cannot_show_is_no_setting() -> None:
    assert PolicyConfig("zero", name="null").name == "null"
    with pytest.raises(ValueError, match="cannot set name: expected a name of 1 to 100 visible"):
        PolicyConfig("zero", name="a\nb")


def test_plain_text_never_leaves_the_reader() -> None:
    cfg = load_config(Kinds, [], ["text=a", "texts=[b]", "named={c: d}", "any={e: f}", "maybe=g"])
    leaves = [cfg.text, *cfg.texts, *cfg.named, *cfg.named.values(), *cfg.any.values(), cfg.maybe]
    assert all(type(leaf) is str for leaf in leaves)
    assert type(to_value(Literal["x"], Plain("x"), "mode")) is str


def test_every_field_keeps_its_default() -> None:
    for schema in SCHEMAS:
        if all(default_of(setting) is not MISSING for setting in fields(schema)):
            assert load_config(schema, [], []) == schema()
