"""The `v2w` command: choose a command, read its settings, run it, and end with one clear line."""

import ast
import importlib
import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, cast, get_type_hints

from omegaconf import MISSING, OmegaConf

from configs.loader import load_config
from configs.lookup import hint, lookup

COMMANDS: Mapping[str, str] = {
    "collect": "scripts.collect",
    "train": "scripts.train",
    "train-policy": "scripts.train_policy",
    "train-planner": "scripts.train_planner",
    "train-judge": "scripts.train_judge",
    "embed": "scripts.embed",
    "convert-policy": "scripts.convert_policy",
    "verify-policy": "scripts.verify_policy",
    "serve-policy": "scripts.serve_policy",
    "trials": "scripts.trials",
    "rank": "scripts.rank",
    "gate": "scripts.gate",
    "rollout": "scripts.rollout",
    "action-control": "scripts.action_control",
    "convert": "scripts.convert",
    "random-checkpoint": "scripts.random_checkpoint",
    "parity": "scripts.parity",
    "bench": "scripts.bench",
    "fidelity": "scripts.fidelity",
}
"""Where each command lives; a module is imported when its command is chosen, not before."""

USAGE = "v2w <command> [CONFIG.yaml ...] [key=value ...] [--flag ...]"
FAILED, INTERRUPTED = 2, 130


class Command(Protocol):
    """A module of `scripts`: its docstring's first line is the help text.

    A module may also name `ARGUMENTS`: settings that bare words fill, in this order.
    """

    SCHEMA: type[Any]
    main: Callable[[Any], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 2 failed, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    label = "v2w"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if not words or words[0] in ("-h", "--help"):
            print(_overview())
            return 0 if words else FAILED
        name, *settings = words
        command = load_command(name)
        label = f"v2w {name}"
        if {"-h", "--help"} & set(settings):
            print(_command_help(name, command))
        else:
            command.main(read_settings(command, settings))
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        print(f"{label}: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{label}: interrupted; run the same command again to resume", file=sys.stderr)
        return INTERRUPTED
    return 0


def load_command(name: str) -> Command:
    """Import the module of a command.

    Raises:
        ValueError: Unknown command.
        ModuleNotFoundError: The command needs a package that is not installed.
    """
    return cast(Command, importlib.import_module(lookup(COMMANDS, name, "command")))


def read_settings(command: Command, words: Sequence[str]) -> Any:
    """Turn the words after the command's name into its config; files first, then overrides.

    A flag `--name` is short for `name=true`.

    Raises:
        ValueError: A bare word too many, or a flag or setting that is wrong.
        FileNotFoundError: A file that does not exist.
    """
    words = [_without_dashes(command, word) for word in words]
    files = [word for word in words if word.endswith((".yaml", ".yml")) and "=" not in word]
    bare = [word for word in words if "=" not in word and word not in files]
    names = arguments(command)
    if len(bare) > len(names):
        asked = "".join(f"{name.upper()}, " for name in names)
        raise ValueError(f"expected {asked}a .yaml file or key=value, found {bare[len(names)]!r}")
    filled = [f"{name}={word}" for name, word in zip(names, bare, strict=False)]
    return load_config(
        command.SCHEMA, files, filled + [word for word in words if word not in files + bare]
    )


def arguments(command: Command) -> tuple[str, ...]:
    """Return the settings that bare words fill."""
    return getattr(command, "ARGUMENTS", ())


def _without_dashes(command: Command, word: str) -> str:
    """Return the setting that a flag stands for; any other word is returned as it is.

    Raises:
        ValueError: A flag that the command does not have.
    """
    if not word.startswith("-"):
        return word
    types = get_type_hints(command.SCHEMA)
    flags = [f"--{field.name}" for field in fields(command.SCHEMA) if types[field.name] is bool]
    if word not in flags:
        there = ", ".join(flags) or "no flags"
        raise ValueError(
            f"unknown flag {word}{hint(word, flags)} (there are: {there}); other settings are "
            "written key=value"
        )
    return f"{word[2:]}=true"


def _overview() -> str:
    lines = [f"  {name:<18} {_summary(module)}" for name, module in COMMANDS.items()]
    more = "v2w <command> --help lists the settings; --flag is short for flag=true."
    return "\n".join([f"usage: {USAGE}", "", "commands:", *lines, "", more])


def _summary(module: str) -> str:
    """Return the first line of a module's docstring without importing the module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"expected {module} to be installed; run: pip install -e .")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _command_help(name: str, command: Command) -> str:
    defaults = OmegaConf.to_container(OmegaConf.structured(command.SCHEMA))
    words = " ".join([name, *(argument.upper() for argument in arguments(command))])
    lines = [f"usage: {USAGE.replace('<command>', words)}", "", _summary(COMMANDS[name]), ""]
    for key, default, doc in _settings(command.SCHEMA, cast(dict[str, Any], defaults)):
        lines += [f"  {key}={default}", *([f"      {doc}"] if doc else [])]
    return "\n".join(lines)


def _settings(
    schema: type[Any], defaults: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Yield key, default as YAML and description of every setting, nested ones as `a.b`."""
    types, docs = get_type_hints(schema), _attribute_docs(schema)
    for name, default in defaults.items():
        if is_dataclass(types[name]):
            yield from _settings(cast(type, types[name]), default, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(default), docs.get(name, "")


def _shown(default: object) -> str:
    if default == MISSING:
        return "(required)"
    return default if isinstance(default, str) else json.dumps(default)


def _attribute_docs(schema: type[Any]) -> dict[str, str]:
    """Read "Attributes:" of a Google docstring, inherited ones too: name -> one line."""
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
