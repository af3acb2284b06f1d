"""The `v2w` command: choose a command, read its settings, run it, and end with one clear line."""

import ast
import importlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, cast, get_args

from v2w_gym import __version__
from v2w_gym.configs.loader import default_of, load_config
from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.rules import Range
from v2w_gym.configs.text import printable, to_path
from v2w_gym.configs.values import types_of

GROUPS: Mapping[str, Mapping[str, str]] = {
    "data: what was recorded": {
        "collect": "v2w_gym.scripts.collect",
        "prepare": "v2w_gym.scripts.prepare",
        "cache": "v2w_gym.scripts.cache",
        "show": "v2w_gym.scripts.show",
        "starts": "v2w_gym.scripts.starts",
    },
    "study: how good policies are": {
        "rank": "v2w_gym.scripts.rank",
        "trials": "v2w_gym.scripts.trials",
        "rollout": "v2w_gym.scripts.rollout",
        "action-control": "v2w_gym.scripts.action_control",
        "serve-policy": "v2w_gym.scripts.serve_policy",
    },
    "judge: what counts as a success": {
        "train-judge": "v2w_gym.scripts.train_judge",
    },
    "train: world models and policies": {
        "train": "v2w_gym.scripts.train",
        "train-policy": "v2w_gym.scripts.train_policy",
        "train-planner": "v2w_gym.scripts.train_planner",
        "embed": "v2w_gym.scripts.embed",
    },
    "convert: checkpoints of other projects": {
        "convert": "v2w_gym.scripts.convert",
        "convert-policy": "v2w_gym.scripts.convert_policy",
        "random-checkpoint": "v2w_gym.scripts.random_checkpoint",
    },
    "check: whether results can be trusted": {
        "gate": "v2w_gym.scripts.gate",
        "parity": "v2w_gym.scripts.parity",
        "bench": "v2w_gym.scripts.bench",
        "bench data": "v2w_gym.scripts.bench_data",
        "fidelity": "v2w_gym.scripts.fidelity",
        "verify-policy": "v2w_gym.scripts.verify_policy",
    },
}
"""Group -> command, of one or two words -> its module, imported only when the command runs."""

COMMANDS = {name: module for group in GROUPS.values() for name, module in group.items()}

EXAMPLES = """examples:
  v2w rank configs/rank_standin.yaml                  # rank the bundled policies
  v2w rollout start=3 policy=rt1-15 task=open_drawer  # watch one of them in the world model
  v2w train configs/train_standin.yaml seed=1        # train such a model, with one other setting"""

STARTS_OVER = frozenset(
    {
        "bench",
        "bench data",
        "convert",
        "convert-policy",
        "gate",
        "parity",
        "random-checkpoint",
        "show",
        "starts",
        "verify-policy",
    }
)
"""Commands that do not resume after an interruption. (`serve-policy` always ends by one.)"""

USAGE = "v2w <command> [CONFIG.yaml ...] [key=value ...] [--flag ...]"
NOT_PASSED, FAILED, INTERRUPTED = 1, 2, 130
WRITING = """Text is taken as typed: output=010 and output=no stay 010 and no. Numbers are decimal:
10, 0.5 or 1e-4. Switches are true or false. null means none where a setting may be none. A list is
written [a, b], a mapping {a: 1}. Quotes around a whole value make it text: judge='"null"'. In every
path, ~ is the home folder. YAML files follow the same rules; ${...} and ??? are errors."""
HELP, VERSION = {"-h", "--help"}, "--version"
EXPECTED = (ValueError, OSError, ModuleNotFoundError, FloatingPointError)
"""Errors that a user, a file or a machine can cause; they become one line. Other errors are bugs
and keep their traceback, except for running out of memory."""
LONGEST_REASON = 2000


class Command(Protocol):
    """A module of `scripts`; the first line of its docstring is the help text.

    `main` returns False if a check fails. A module may also define `ARGUMENTS`, the settings that
    positional words fill, in this order.
    """

    SCHEMA: type[Any]
    main: Callable[[Any], bool | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    Returns:
        0 done, 1 a check did not pass (such as `v2w gate`), 2 failed, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    name, _ = split_words(words)
    label = f"v2w {name}" if name in COMMANDS else "v2w"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return _run(words)
    except EXPECTED as error:
        reason = str(error) or type(error).__name__
    except RecursionError as error:
        reason = f"expected settings and files that are nested less deeply, found {error}"
    except (MemoryError, RuntimeError) as error:
        if not _is_exhausted(error):
            raise
        reason = f"out of memory ({error}); use less at once, such as a smaller batch_size"
    except KeyboardInterrupt:
        advice = "start over" if name in STARTS_OVER else "resume"
        print(f"{label}: interrupted; run the same command again to {advice}", file=sys.stderr)
        return INTERRUPTED
    print(f"{label}: {printable(' '.join(reason.split()), LONGEST_REASON)}", file=sys.stderr)
    return FAILED


def _run(words: Sequence[str]) -> int:
    if not words or words[0] in HELP:
        _show(_overview())
        return 0 if words else FAILED
    if words[0] == VERSION:
        _show(f"v2w-gym {__version__}")
        return 0
    name, settings = split_words(words)
    command = load_command(name)
    if HELP & set(settings):
        _show(_command_help(name, command))
        return 0
    passed = command.main(read_settings(command, settings))
    return NOT_PASSED if passed is False else 0


def split_words(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the name of the command, which may have two words, and its settings."""
    count = 2 if " ".join(words[:2]) in COMMANDS else 1
    return " ".join(words[:count]), words[count:]


def _show(text: str) -> None:
    """Print, and ignore a broken pipe, as with `v2w --help | head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_exhausted(error: BaseException) -> bool:
    """Whether memory ran out; PyTorch raises a RuntimeError, or its subclass on a GPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )


def load_command(name: str) -> Command:
    """Import the module of a command.

    Raises:
        ValueError: Unknown command.
        ModuleNotFoundError: The command needs a package that is not installed.
    """
    return cast(Command, importlib.import_module(lookup(COMMANDS, name, "command")))


def read_settings(command: Command, words: Sequence[str]) -> Any:
    """Turn the words after the command's name into its config: files first, then overrides.

    A flag `--name` is short for `name=true`. A word is an override if the part before its first `=`
    is a setting. Otherwise it may be a path with a `=`, such as `lr=1e-5/last.ckpt`.

    Raises:
        ValueError: Too many positional words, or a wrong flag or setting.
        FileNotFoundError: No such file.
    """
    words = [_without_dashes(command, word) for word in words]
    bare = [word for word in words if not _is_override(command, word)]
    files = [word for word in bare if word.endswith((".yaml", ".yml"))]
    names, given = arguments(command), [word for word in bare if word not in files]
    if len(given) > len(names):
        expected = "".join(f"{name.upper()}, " for name in names)
        raise ValueError(
            f"expected {expected}a .yaml file or key=value, found {given[len(names)]!r}"
        )
    filled = [f"{name}={word}" for name, word in zip(names, given, strict=False)]
    return load_config(command.SCHEMA, files, filled + [word for word in words if word not in bare])


def _is_override(command: Command, word: str) -> bool:
    """Whether a word is a setting, and not a file or a hub id."""
    key, equals, _ = word.partition("=")
    if key.partition(".")[0] in types_of(command.SCHEMA):
        return bool(equals)
    return bool(equals) and "/" not in key and not to_path(word).exists()


def arguments(command: Command) -> tuple[str, ...]:
    """Return the settings that positional words fill."""
    return getattr(command, "ARGUMENTS", ())


def _without_dashes(command: Command, word: str) -> str:
    """Turn a flag into a setting, and return other words unchanged.

    Raises:
        ValueError: Unknown flag.
    """
    if not word.startswith("-"):
        return word
    flags = [f"--{name}" for name, kind in types_of(command.SCHEMA).items() if kind is bool]
    if word not in flags:
        there = ", ".join(flags) or "none"
        raise ValueError(
            f"unknown flag {word}{hint(word, flags)} (flags: {there}); write other settings as "
            "key=value"
        )
    return f"{word[2:]}=true"


def _overview() -> str:
    groups = ["\n".join([title, *map(_line, group)]) for title, group in GROUPS.items()]
    more = (
        "v2w <command> --help lists the settings; --flag is short for flag=true.\n"
        "v2w --version prints the version."
    )
    return "\n\n".join([f"usage: {USAGE}", EXAMPLES, *groups, more, WRITING])


def _line(name: str) -> str:
    return f"  {name:<18} {_summary(COMMANDS[name])}"


def _summary(module: str) -> str:
    """Return the first line of a module's docstring without importing the module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"expected {module} to be installed; run: pip install -e .")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _command_help(name: str, command: Command) -> str:
    words = " ".join([name, *(argument.upper() for argument in arguments(command))])
    lines = [f"usage: {USAGE.replace('<command>', words)}", "", _summary(COMMANDS[name]), ""]
    for key, default, doc in _settings(command.SCHEMA):
        lines += [f"  {key}={default}", *([f"      {doc}"] if doc else [])]
    return "\n".join([*lines, "", WRITING])


def _settings(
    schema: type[Any], base: object = None, prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and description of every setting; nested keys are `a.b`."""
    types, docs = types_of(schema), _attribute_docs(schema)
    for setting in fields(schema):
        name, kind = setting.name, types[setting.name]
        default = default_of(setting) if base is None else getattr(base, name)
        if is_dataclass(kind):
            yield from _settings(cast(type, kind), default, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(default), f"{docs.get(name, '')}{_range(kind)}"


def _shown(default: object) -> str:
    """Return a default as a user would write it."""
    if default is MISSING:
        return "(required)"
    return default if isinstance(default, str) else json.dumps(default)


def _range(kind: Any) -> str:
    """Return the range of a number, or of the numbers in a list, as a sentence."""
    if isinstance(kind, Range):
        return f" {str(kind).capitalize()}."
    return next(filter(None, map(_range, get_args(kind))), "")


def _attribute_docs(schema: type[Any]) -> dict[str, str]:
    """Read "Attributes:" of the docstrings of a class and its bases: name -> one line."""
    docs: dict[str, str] = {}
    parts = [(base.__doc__ or "").partition("Attributes:\n")[2] for base in schema.__mro__]
    for line in "\n".join(reversed(parts)).splitlines():
        name, colon, text = line.strip().partition(": ")
        if colon and name in schema.__dataclass_fields__:
            docs[name] = text
        elif docs and line.strip():
            docs[next(reversed(docs))] += f" {line.strip()}"
    return docs


if __name__ == "__main__":
    raise SystemExit(main())
