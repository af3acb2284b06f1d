"""The `v2w` command: its output and its exit status."""

import importlib.util
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest
import torch

import v2w_gym
from v2w_gym.scripts import cli

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Inner:
    """Nested settings.

    Attributes:
        rate: How fast.
    """

    rate: float = 0.1


@dataclass(frozen=True)
class Settings:
    """Settings of a command that exists in this test only.

    Attributes:
        output: Where results go; a long
            description goes on here.
        inner: Nested.
        names: Which ones.
        limit: At most so many; null for all.
        fast: Whether to hurry.
    """

    output: str
    inner: Inner = Inner(rate=0.5)
    names: list[str] = field(default_factory=lambda: ["a"])
    limit: int | None = None
    fast: bool = False


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Add a command "fake" that collects the configs it was called with."""
    spec = importlib.util.find_spec("v2w_gym.scripts.collect")
    assert spec
    module = importlib.util.module_from_spec(spec)
    module.SCHEMA, module.calls = Settings, []
    module.main = module.calls.append
    monkeypatch.setitem(cli.COMMANDS, "fake", "v2w_gym.scripts.collect")
    monkeypatch.setitem(sys.modules, "v2w_gym.scripts.collect", module)
    return module


def raising(error: BaseException) -> Callable[[object], None]:
    def main(cfg: object) -> None:
        raise error

    return main


def test_a_command_gets_its_settings(fake: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output: here\nlimit: 3\n")
    assert cli.main(["fake", "limit=4", str(path), "inner.rate=2"]) == 0
    assert fake.calls == [Settings("here", Inner(2.0), limit=4)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fke"], "v2w: expected command to be one of "),
        (["fke"], "did you mean 'fake'?"),
        (["fake", "output=x", "limt=1"], "v2w fake: 'limt=1': unknown setting limt; did you mean"),
        (["fake"], "v2w fake: expected a value for output"),
        (["fake", "word"], "v2w fake: expected a .yaml file or key=value, found 'word'"),
        (["fake", "output=x", "--fats"], "v2w fake: unknown flag --fats; did you mean '--fast'?"),
        (["fake", "output=x", "--limit"], "(flags: --fast); write other settings as key="),
        (["fake", "output=x", "--fast=true"], "v2w fake: unknown flag --fast=true; did you mean"),
        (["fake", "output=x", "-f"], "v2w fake: unknown flag -f (flags: --fast)"),
        (["parity", "--quick"], "v2w parity: unknown flag --quick (flags: none)"),
        (["fake", "absent.yaml"], "v2w fake: expected a YAML file at absent.yaml, found none"),
    ],
)
def test_a_wrong_word_ends_in_one_line_and_status_2(
    fake: ModuleType, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert fake.calls == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("expected this,\n  found that"),
        FileNotFoundError("expected this, found that"),
        PermissionError("expected this, found that"),
        ModuleNotFoundError("expected this, found that"),
        OSError("expected this, found that"),
    ],
)
def test_what_a_user_can_cause_ends_in_one_line_and_status_2(
    fake: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    fake.main = raising(error)
    assert cli.main(["fake", "output=x"]) == 2
    assert capsys.readouterr().err == "v2w fake: expected this, found that\n"


def test_bare_words_fill_the_arguments_of_a_command(fake: ModuleType) -> None:
    fake.ARGUMENTS = ("output", "limit")
    assert cli.main(["fake", "there", "inner.rate=2", "4"]) == 0
    assert fake.calls == [Settings("there", Inner(2.0), limit=4)]


def test_a_command_may_have_two_words(
    fake: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(cli.COMMANDS, "fake more", cli.COMMANDS["fake"])
    assert cli.main(["fake", "more", "output=x"]) == 0
    assert fake.calls == [Settings("x")]
    assert cli.main(["fake", "more"]) == 2
    assert capsys.readouterr().err.startswith("v2w fake more: expected a value for output")


def test_a_flag_is_short_for_true(fake: ModuleType) -> None:
    fake.ARGUMENTS = ("output",)
    assert cli.main(["fake", "--fast", "there"]) == 0
    assert cli.main(["fake", "--fast", "there", "fast=false"]) == 0  # later words win
    assert fake.calls == [Settings("there", fast=True), Settings("there")]


def test_a_bare_word_too_many_is_refused(
    fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.ARGUMENTS = ("output",)
    assert cli.main(["fake", "there", "more"]) == 2
    expected = "v2w fake: expected OUTPUT, a .yaml file or key=value, found 'more'\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    "word", ["epoch=10-step=100.ckpt", "logs/lr=1e-5/last.ckpt", "me/run:epoch=10.ckpt", "./a=b"]
)
def test_a_path_may_hold_an_equals_sign(
    fake: ModuleType, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.ARGUMENTS = ("output",)
    monkeypatch.chdir(tmp_path)
    Path("epoch=10-step=100.ckpt").touch()
    assert cli.main(["fake", word, "limit=3"]) == 0
    assert cli.main(["fake", f"output={word}"]) == 0
    assert [cfg.output for cfg in fake.calls] == [word, word]


def test_a_setting_is_a_setting_even_if_a_file_has_its_name(
    fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.ARGUMENTS = ("output",)
    monkeypatch.chdir(tmp_path)
    Path("limit=3").touch()
    Path("lr=1.yaml").write_text("output: here")
    assert cli.main(["fake", "there", "limit=3"]) == 0
    assert cli.main(["fake", "lr=1.yaml"]) == 0
    assert fake.calls == [Settings("there", limit=3), Settings("here")]


def test_a_word_that_is_no_setting_and_no_file_is_refused(
    fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.ARGUMENTS = ("output",)
    assert cli.main(["fake", "ouptut=10.ckpt"]) == 2
    assert "unknown setting ouptut; did you mean 'output'?" in capsys.readouterr().err


def test_a_range_is_part_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rank", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "Rollouts per start, each with its own noise. From 1 to 10000." in printed
    assert cli.main(["bench", "--help"]) == 0
    assert "Numbers of denoising steps. From 1 to 1000." in capsys.readouterr().out


def test_the_help_says_how_values_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help"], ["rank", "--help"]):
        assert cli.main(words) == 0
        assert "Text is taken as typed" in capsys.readouterr().out


def test_help_shows_the_arguments(fake: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    fake.ARGUMENTS = ("output",)
    assert cli.main(["fake", "--help"]) == 0
    assert "usage: v2w fake OUTPUT [CONFIG.yaml ...]" in capsys.readouterr().out


def test_what_strangers_wrote_is_printed_without_control_characters(
    fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.main = raising(ValueError("a \x1b[31mred\x07 server\u202e said\0 " + "x" * 10_000))
    assert cli.main(["fake", "output=x"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("v2w fake: a red server said x")
    assert printed.rstrip("\n").isprintable() and len(printed) < 3000
    assert cli.main(["\x1b[31mfake"]) == 2
    assert capsys.readouterr().err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            MemoryError("cannot allocate 3 TB"),
            "v2w fake: out of memory (cannot allocate 3 TB); use",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), "v2w fake: out of memory (CUDA out of"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "out of memory",
        ),
        (
            RecursionError("maximum recursion depth exceeded"),
            "v2w fake: expected settings and files that are nested",
        ),
        (ValueError(), "v2w fake: ValueError"),
    ],
)
def test_what_a_machine_cannot_do_is_one_line(
    fake: ModuleType, capsys: pytest.CaptureFixture[str], error: Exception, message: str
) -> None:
    fake.main = raising(error)
    assert cli.main(["fake", "output=x"]) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (None, 0), (False, 1)])
def test_what_does_not_pass_ends_with_status_1(
    fake: ModuleType, passed: bool | None, status: int
) -> None:
    fake.main = lambda cfg: passed
    assert cli.main(["fake", "output=x"]) == status


def test_a_reader_that_stops_reading_is_no_failure() -> None:
    command = f"{sys.executable} -m v2w_gym.scripts.cli rank --help | head -c 1"
    run = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stderr == ""


def test_a_mistake_of_ours_keeps_its_traceback(fake: ModuleType) -> None:
    fake.main = raising(RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["fake", "output=x"])


def test_an_interrupt_says_how_to_resume(
    fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.main = raising(KeyboardInterrupt())
    assert cli.main(["fake", "output=x"]) == 130
    expected = "v2w fake: interrupted; run the same command again to resume\n"
    assert capsys.readouterr().err == expected


def test_an_interrupt_does_not_promise_a_resume_that_there_is_not(
    fake: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.main = raising(KeyboardInterrupt())
    assert set(cli.COMMANDS) > cli.STARTS_OVER
    monkeypatch.setattr(cli, "STARTS_OVER", {"fake"})
    assert cli.main(["fake", "output=x"]) == 130
    assert capsys.readouterr().err == (
        "v2w fake: interrupted; run the same command again to start over\n"
    )


@pytest.mark.parametrize(("words", "status"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_the_overview_has_every_command_in_its_group(
    capsys: pytest.CaptureFixture[str], words: list[str], status: int
) -> None:
    assert cli.main(words) == status
    paragraphs = capsys.readouterr().out.split("\n\n")
    for title, commands in cli.GROUPS.items():
        [lines] = [text.splitlines() for text in paragraphs if text.startswith(f"{title}\n")]
        assert [line[:20].strip() for line in lines[1:]] == list(commands)
        assert all(len(line.split()) > 3 for line in lines[1:])


@pytest.mark.parametrize("line", cli.EXAMPLES.splitlines()[1:])
def test_an_example_names_settings_that_exist(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(line, comments=True)
    assert program == "v2w"
    name, settings = cli.split_words(words)
    cli.read_settings(cli.load_command(name), settings)


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"v2w-gym {v2w_gym.__version__}\n"


def test_the_help_of_a_command_shows_each_setting_its_default_and_meaning(
    fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fake", "--help"]) == 0
    settings = capsys.readouterr().out.split("\n\n")[2]
    assert settings.splitlines() == [
        "  output=(required)",
        "      Where results go; a long description goes on here.",
        "  inner.rate=0.5",
        "      How fast.",
        '  names=["a"]',
        "      Which ones.",
        "  limit=null",
        "      At most so many; null for all.",
        "  fast=false",
        "      Whether to hurry.",
    ]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_setting_of_every_command_is_described(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert cli.main([name, "--help"]) == 0
    settings = capsys.readouterr().out.split("\n\n")[2].splitlines()
    keys = [line for line in settings if not line.startswith("      ")]
    assert len(settings) == 2 * len(keys)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_the_first_line_of_a_config_is_the_command_that_uses_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    hash_sign, v2w, name, file, *overrides = first.split()
    assert (hash_sign, v2w, file) == ("#", "v2w", f"configs/{path.name}")
    cli.read_settings(cli.load_command(name), [str(path), *overrides])


def test_the_shell_sees_the_exit_status_and_no_traceback() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "v2w_gym.scripts.cli", "colect"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stderr.endswith("did you mean 'collect'?\n")
    assert run.stderr.count("\n") == 1
