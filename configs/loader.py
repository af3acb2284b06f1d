"""How settings are read: a dataclass's defaults, then YAML files, then `key=value` overrides."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from configs.lookup import hint

Config = TypeVar("Config")


def load_config(schema: type[Config], files: Sequence[str], overrides: Sequence[str]) -> Config:
    """Return `schema` with what `files` set, then what `overrides` set; later ones win.

    A mapping is merged key by key, a list is replaced as a whole.

    Args:
        schema: A frozen dataclass; its fields are the only keys there are.
        files: Paths of YAML files.
        overrides: `key=value` or `section.key=value`, the value written as in YAML.

    Raises:
        FileNotFoundError: A file that does not exist.
        ValueError: An unknown key, a value of the wrong type, malformed YAML, a word without `=`,
            or a setting that has no default and is set nowhere.
    """
    config = OmegaConf.structured(schema)
    for file in files:
        config = _merge(config, _read_yaml(Path(file)), file)
    for override in overrides:
        config = _merge(config, _read_override(override), f"{override!r}")
    return _finished(config)


def from_mapping(schema: type[Config], settings: Mapping[str, Any], origin: str) -> Config:
    """Return `schema` with `settings`, such as those on a checkpoint's card.

    Raises:
        ValueError: As for `load_config`; the message names `origin`.
    """
    return _finished(_merge(OmegaConf.structured(schema), OmegaConf.create(dict(settings)), origin))


def _finished(config: DictConfig) -> Any:
    try:
        return OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ValueError(f"expected a value for {key}, found none; add {key}=...") from error
    except OmegaConfBaseException as error:
        raise ValueError(f"cannot use {error.full_key}: {_first_line(error)}") from error


def _merge(config: DictConfig, settings: DictConfig, origin: str) -> DictConfig:
    try:
        return cast(DictConfig, OmegaConf.merge(config, settings))
    except ConfigKeyError as error:
        known = [field.name for field in fields(cast(Any, error.object_type))]
        raise ValueError(
            f"{origin}: unknown setting {error.full_key}{hint(str(error.key), known)} "
            f"(there are: {', '.join(known)})"
        ) from error
    except (OmegaConfBaseException, TypeError) as error:
        key = getattr(error, "full_key", None) or "the value"
        raise ValueError(f"{origin}: cannot set {key}: {_first_line(error)}") from error


def _read_yaml(path: Path) -> DictConfig:
    if not path.is_file():
        bundled = sorted(file.name for file in Path(__file__).parent.glob("*.yaml"))
        raise FileNotFoundError(
            f"expected a YAML file at {path}, found none; {Path(__file__).parent} has {bundled}"
        )
    try:
        settings = OmegaConf.create(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"expected YAML in {path}, found {error}") from error
    if not isinstance(settings, DictConfig):
        raise ValueError(f"expected `key: value` lines in {path}, found a list")
    return settings


def _read_override(override: str) -> DictConfig:
    key, equals, _ = override.partition("=")
    if not equals or not key:
        raise ValueError(f"expected a .yaml file or key=value, found {override!r}")
    try:
        return OmegaConf.from_dotlist([override])
    except yaml.YAMLError as error:
        raise ValueError(f"expected {override!r} to hold a YAML value, found {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
