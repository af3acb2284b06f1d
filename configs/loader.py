"""Loading of settings: a dataclass's defaults, then YAML files, then `key=value` overrides.

A setting's type decides how its text is read:
    text: stays as typed, so `output=010`, `no` and `12:30` are text
    numbers: are decimal, so 010 is ten and 1e-4 a float
    switches: are `true` or `false`
    none: is `null`, `~` or nothing, if the setting may be none
Quotes around the whole value make it text (`judge='"null"'`). A value that begins with [ or { is
YAML.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf

from v2w_gym.configs.text import to_path
from v2w_gym.configs.values import Plain, nested_schema, to_settings, types_of
from v2w_gym.configs.yaml_text import DEEPEST, LONGEST, parse_yaml

Config = TypeVar("Config")


def load_config(schema: type[Config], files: Sequence[str], overrides: Sequence[str]) -> Config:
    """Return `schema` with the settings in `files`, then those in `overrides`; later ones win.

    A mapping is merged key by key, a list is replaced as a whole.

    Args:
        schema: A frozen dataclass; its fields are the only keys there are.
        files: Paths of YAML files.
        overrides: `key=value` or `section.key=value`.

    Raises:
        FileNotFoundError: A file that does not exist.
        ValueError: An unknown key, a value of the wrong type or out of range, malformed YAML, a
            word without `=`, or a required setting that is missing.
    """
    found: dict[str, Any] = {}
    for file in files:
        found = _merged(found, _checked(schema, _read_file(to_path(file)), file))
    for override in overrides:
        found = _merged(found, _checked(schema, _read_override(override), repr(override)))
    try:
        return _built(schema, None, found)
    except ValueError as error:
        origin = "" if overrides else "".join(f"{file}: " for file in files)
        raise ValueError(f"{origin}{error}") from error


def from_mapping(schema: type[Config], settings: Mapping[str, Any], origin: str) -> Config:
    """Return `schema` with `settings`, such as those on a checkpoint's card.

    Raises:
        ValueError: As for `load_config`; the message names `origin`.
    """
    return _built(schema, None, _checked(schema, settings, origin))


def default_of(setting: "Field[Any]") -> Any:
    """Return a setting's default; `dataclasses.MISSING` if it must be set."""
    factory = setting.default_factory
    return setting.default if factory is MISSING else factory()


def _checked(schema: type[Any], settings: object, origin: str) -> dict[str, Any]:
    try:
        return to_settings(schema, settings)
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return both layers of settings, whose values were checked before."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.merge(dict(old), dict(new))))


def _built(schema: type[Config], base: Config | None, found: Mapping[str, Any]) -> Config:
    """Return `base`, or the defaults of `schema`, with the values in `found`."""
    values = {}
    for setting in fields(schema):  # type: ignore[arg-type]
        name = setting.name
        old = default_of(setting) if base is None else getattr(base, name)
        value = found.get(name, old)
        if value is MISSING:
            raise ValueError(f"expected a value for {name}, found none; add {name}=...")
        nested = nested_schema(types_of(schema)[name])
        if isinstance(value, dict) and nested is not None:
            value = _built(nested, old if isinstance(old, nested) else None, value)
        elif isinstance(value, dict) and isinstance(old, dict):
            value = _merged(old, value)
        values[name] = value
    return schema(**values)


def _read_file(path: Path) -> Any:
    if not path.is_file():
        bundled = sorted(file.name for file in Path(__file__).parent.glob("*.yaml"))
        raise FileNotFoundError(
            f"expected a YAML file at {path}, found none; {Path(__file__).parent} has {bundled}"
        )
    try:
        with path.open(encoding="utf-8-sig") as file:
            settings = parse_yaml(file.read(LONGEST + 1))
    except ValueError as error:  # a UnicodeDecodeError is one
        raise ValueError(f"expected YAML in {path}, found: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"expected `key: value` lines in {path}, found a list or text")
    return settings


def _read_override(override: str) -> dict[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ValueError(f"expected a .yaml file or key=value, found {override!r}")
    parts = key.split(".", DEEPEST)
    settings: Any = _read_value(override, value.strip())
    for part in reversed(parts):
        settings = {part: settings}
    return settings


def _read_value(override: str, value: str) -> Any:
    """Return the value of an override: YAML in brackets, a quoted text, or plain text."""
    if value[:1] in ("[", "{"):
        try:
            return parse_yaml(value)
        except ValueError as error:
            raise ValueError(
                f"expected {override!r} to hold a YAML value, found: {error}; write "
                "'\"...\"' around text that begins with a bracket"
            ) from error
    if value[:1] in ("'", '"'):
        with suppress(ValueError):
            quoted = parse_yaml(value)
            return quoted if type(quoted) is str else Plain(value)
    return Plain(value)
