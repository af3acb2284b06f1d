"""Open recorded data of any known format."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.configs.loader import load_config
from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.sources import SOURCES, SourceFields
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data import prepared
from v2w_gym.world_models.data.sources import lerobot, rlds
from v2w_gym.world_models.data.sources.base import Source, Wanted

_SPLIT = re.compile(r"(?P<path>.+):(?P<split>[^:/\[\]]+(\[[^/\[\]]*\])?)", re.DOTALL)


@dataclass(frozen=True)
class Format:
    """A format of recorded data.

    Attributes:
        recognises: Whether a file or folder has this format; reads names and headers only.
        open: Opens it.
        example: What a path of this format looks like, for messages.
    """

    recognises: Callable[[Path], bool]
    open: Callable[[Path, Wanted], Source]
    example: str


FORMATS: Mapping[str, Format] = {
    "prepared": Format(prepared.is_prepared, prepared.open_source, "a folder of `v2w prepare`"),
    "lerobot": Format(lerobot.recognises, lerobot.open_lerobot, "a folder with meta/info.json"),
    "rlds": Format(rlds.recognises, rlds.open_source, "fractal20220817_data/0.1.0:train[:1000]"),
}
"""Format -> how to recognise and open it; the first that recognises a path opens it."""


def open_source(text: str, *, kind: str = "", fields: str = "", camera: str = "") -> Source:
    """Open recorded data.

    Args:
        text: A file or folder; the name of a split may follow a colon, as in "FOLDER:train[:9]".
        kind: Key in `FORMATS`; "" for the one that recognises the path.
        fields: Key in `SOURCES`, or a YAML file of `SourceFields`; "" for what is known.
        camera: Name of the camera; "" for that of `fields`, or the only one.

    Raises:
        FileNotFoundError: No such file or folder.
        ModuleNotFoundError: The format needs an extra that is not installed.
        ValueError: No known format, or an unknown split, field or camera.
    """
    path, split = split_path(text)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"expected recorded data at {path}, found nothing there{hint(path.name, beside)}"
        )
    wanted = Wanted(split, find_fields(fields) if fields else None, camera)
    return _find_format(path, kind).open(path, wanted)


def split_path(text: str) -> tuple[Path, str]:
    """Return the path of recorded data, and the split after a colon; "" by default."""
    whole = to_path(text)
    match = _SPLIT.fullmatch(text)
    if whole.exists() or match is None:
        return whole, ""
    return to_path(match["path"]), match["split"]


def find_fields(name: str) -> SourceFields:
    """Return the fields of a known data set, or those in a YAML file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Unknown data set, or a wrong file.
    """
    if name.endswith((".yaml", ".yml")):
        return load_config(SourceFields, [name], [])
    return lookup(SOURCES, name, "the data set, or a YAML file with its fields")


def _find_format(path: Path, name: str) -> Format:
    if name:
        return lookup(FORMATS, name, "format")
    for known in FORMATS.values():
        if known.recognises(path):
            return known
    examples = "; ".join(f"{name}: {known.example}" for name, known in FORMATS.items())
    raise ValueError(f"expected recorded data at {path} in a known format ({examples}), found none")
