"""Open recorded data of any known format."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from v2w_gym.configs.loader import load_config
from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.sources import SOURCES, SourceFields
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data import prepared
from v2w_gym.world_models.data.decoding.pictures import PICTURES
from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.labelled import ENDING
from v2w_gym.world_models.data.sources import (
    archives,
    csgo,
    frame_arrays,
    lerobot,
    pictures,
    recon,
    rlds,
    starts,
    videos,
)
from v2w_gym.world_models.data.sources.base import Source, Wanted
from v2w_gym.world_models.data.sources.episode_files import kinds_in

_SPLIT = re.compile(r"(?P<path>.+):(?P<split>[^:/\[\]]+(\[[^/\[\]]*\])?)", re.DOTALL)


@dataclass(frozen=True)
class Format:
    """A format of recorded data.

    Attributes:
        recognises: Whether a file or folder has this format; reads names and headers only.
        open: Opens it.
        example: What a path of this format looks like, for messages.
        endings: Endings of its files, if a single file can be opened.
    """

    recognises: Callable[[Path], bool]
    open: Callable[[Path, Wanted], Source]
    example: str
    endings: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = {
    "prepared": Format(prepared.is_prepared, prepared.open_source, "a folder of `v2w prepare`"),
    "lerobot": Format(lerobot.recognises, lerobot.open_lerobot, "a folder with meta/info.json"),
    "rlds": Format(rlds.recognises, rlds.open_source, "fractal20220817_data/0.1.0:train[:1000]"),
    "starts": Format(starts.recognises, starts.open_starts, "a start file that `v2w starts` wrote"),
    "csgo": Format(csgo.recognises, csgo.open_csgo, "full_res/*/hdf5_*.hdf5", (csgo.ENDING,)),
    "recon": Format(recon.recognises, recon.open_recon, "folders with traj_data.pkl"),
    "npz": Format(
        archives.recognises, archives.open_archives, "episode_*.npz or train_eps_*.npz", (ENDING,)
    ),
    "npy": Format(frame_arrays.recognises, frame_arrays.open_frame_array, "frames.npy", (".npy",)),
    "videos": Format(videos.recognises, videos.open_videos, "videos, such as .mp4", videos.ENDINGS),
    "pictures": Format(pictures.recognises, pictures.open_pictures, "pictures", PICTURES),
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
    if not text:
        raise ValueError("expected the path of recorded data, found ''")
    path, split = split_path(text)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise FileNotFoundError(
            f"expected recorded data at {path}, found nothing there{hint(path.name, beside)}"
        )
    wanted = Wanted(split, find_fields(fields) if fields else None, camera)
    return _find_format(path, kind).open(path, wanted)


def read_one(text: str | os.PathLike[str]) -> Episode:
    """Open one episode of recorded data.

    Args:
        text: A source with one episode, such as a file, or "SOURCE#3" or "SOURCE#ID" for one of
            many. A whole number counts the episodes from 0; anything else is an id.

    Raises:
        FileNotFoundError: No such file or folder.
        ModuleNotFoundError: As for `open_source`.
        ValueError: As for `open_source`, no such episode, or several of which none is named.
    """
    place, which = split_episode(text)
    source = open_source(place)
    if which:
        return _find_episode(source, which, place)
    if len(source) != 1:
        raise ValueError(
            f"expected one episode, found {len(source)} in {place}; name one, such as '{place}#0'"
        )
    return next(iter(source.read()))


def split_episode(text: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the text of a source, and the episode after a `#`; "" by default."""
    text = os.fspath(text)
    place, mark, which = text.rpartition("#")
    return (place, which) if place and mark and not to_path(text).exists() else (text, "")


def open_sources(texts: Sequence[str]) -> dict[str, Source]:
    """Return each of `texts` with what `open_source` opens.

    Raises:
        FileNotFoundError, ModuleNotFoundError, ValueError: As for `open_source`.
    """
    return {text: open_source(text) for text in texts}


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


def _find_episode(source: Source, which: str, place: str) -> Episode:
    number = _number_of(which, source, place)
    return next(iter(source.read(number, number + 1)))


def _number_of(which: str, source: Source, place: str) -> int:
    """Return the number of the episode with a number or an id."""
    if which.isdecimal() and str(int(which)) == which:
        if int(which) < len(source):
            return int(which)
        raise ValueError(
            f"expected an episode from 0 to {len(source) - 1} of {place}, found {which}"
        )
    ids = list(source.ids())
    if which in ids:
        return ids.index(which)
    raise ValueError(
        f"expected the number or id of an episode in {place}, such as {ids[0]!r}, found {which!r}"
        f"{hint(which, ids)}"
    )


def _find_format(path: Path, name: str) -> Format:
    if name:
        return lookup(FORMATS, name, "format")
    for known in FORMATS.values():
        if known.recognises(path):
            return known
    found = kinds_in(path) if path.is_dir() else f"a {path.suffix or 'file without ending'}"
    examples = "; ".join(f"{name}: {known.example}" for name, known in FORMATS.items())
    endings = [ending for known in FORMATS.values() for ending in known.endings]
    raise ValueError(
        f"expected recorded data at {path} in a known format ({examples}), found {found}"
        f"{hint(path.suffix.lower(), endings)}"
    )
