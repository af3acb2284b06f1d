"""Loading of world models by path or hub id."""

import re
from collections.abc import Callable, Mapping
from glob import escape
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.text import to_path
from v2w_gym.configs.world_model import WorldModelSettings, world_model_settings
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.checkpoint import read_card
from v2w_gym.world_models.weight_files import INDEX, is_part

Loader: TypeAlias = Callable[[Path, WorldModelSettings], WorldModel]
"""Loads a file; it refuses settings that its kind of world model does not have."""

PUBLISHED = "published"
"""The kind of a file without a card: a Vid2World model in the published format."""
KINDS: Mapping[str, str] = {
    "vid2world": "v2w_gym.world_models.vid2world.loading:load_own",
    PUBLISHED: "v2w_gym.world_models.vid2world.loading:load_published",
}
"""Kind on a checkpoint's card -> its `Loader`, imported when a checkpoint of the kind is loaded."""

BUNDLED = Path(__file__).parent / "weights" / "standin.safetensors"
"""A small world model of the stand-in robot, trained by this project."""
HUB_ID = re.compile(
    r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?"
    r"(:(?P<file>(?!/)(?!([^:]*/)?\.\.(/|$))[^:\x00-\x1f\x7f\\]+))?"
)
"""`owner/name`, `owner/name@revision`, `owner/name:file`, `owner/name@revision:file`."""
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def load_world_model(checkpoint: str | PathLike[str] | None = None, **settings: Any) -> WorldModel:
    """Return a world model, ready for inference; the same weights are loaded once per process.

    Args:
        checkpoint: A file of this project (`.safetensors` with its card) or in the published
            format (`.ckpt`, `.safetensors`), the index of a sharded one, a folder with one of
            them, or a hub id (see `HUB_ID`); None is the bundled model.
        settings: Other fields of `v2w_gym.configs.world_model.WorldModelSettings`, such as
            preset="draft" or device="cuda".

    Raises:
        FileNotFoundError: No such checkpoint.
        TypeError: An unknown setting.
        ValueError: An incomplete or other checkpoint, a setting out of range or unsuitable for the
            model, or a missing device.
        OSError: The hub cannot be reached.
    """
    given = {"checkpoint": checkpoint, **settings}
    return load_with(world_model_settings(given, load_world_model))


def load_with(settings: WorldModelSettings) -> WorldModel:
    """Return the world model of `settings`; errors as for `load_world_model`."""
    path = BUNDLED if settings.checkpoint is None else find_checkpoint(settings.checkpoint)
    card = read_card(path)
    kind = PUBLISHED if card is None else card["kind"]
    place = lookup(KINDS, kind, f"the kind of world model at {path}")
    module, _, name = place.partition(":")
    load: Loader = getattr(import_module(module), name)
    return load(path, settings)


def find_checkpoint(checkpoint: str) -> Path:
    """Return the file of a path, a folder or a hub id; a hub id is downloaded.

    Raises:
        FileNotFoundError: No checkpoint there.
        ValueError: A folder with several checkpoints.
        OSError: The hub cannot be reached.
    """
    path, hub = to_path(checkpoint), HUB_ID.fullmatch(checkpoint)
    if path.is_file():
        return path.absolute()  # a link in a hub's cache leads to a name without ending
    if path.is_dir():
        return _only_checkpoint(path)
    if hub is not None and (hub["file"] or path.suffix not in ENDINGS):
        folder = _download(hub["name"], hub["revision"], hub["file"])
        return folder / hub["file"] if hub["file"] else _only_checkpoint(folder)
    beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    raise FileNotFoundError(
        f"expected a checkpoint at {path}, found no such file{hint(path.name, beside)}; a hub id "
        "looks like owner/name, owner/name@revision or owner/name:file"
    )


def _download(name: str, revision: str | None, file: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [f"*{ending}" for ending in (*ENDINGS, ".json")]
    if file is not None:
        stem = escape(file.removesuffix(INDEX).rpartition(".")[0] or file)
        patterns = [escape(file), f"{stem}.json"]
        if file.endswith(INDEX):
            patterns.append(f"{stem}-*-of-*")
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(
            f"expected {name!r} (revision {revision or 'main'}) on the hub or in its cache, found "
            f"{str(error).splitlines()[0]}"
        ) from error
    if file is not None and not (folder / file).is_file():
        raise FileNotFoundError(f"expected {file!r} in {name!r} on the hub, found no such file")
    return folder


def _only_checkpoint(folder: Path) -> Path:
    found = sorted(p for p in folder.rglob("*") if p.suffix in ENDINGS)
    parts = [path for path in found if is_part(path)]
    indices = sorted(folder.rglob(f"*{INDEX}")) if parts else []
    ours = [path for path in found if read_card(path) is not None]
    choices = ours or indices + [path for path in found if path not in parts]
    if len(choices) == 1:
        return choices[0]
    if not choices:
        found_instead = (
            f"only parts of one, such as {parts[0].name}, and no index" if parts else "none"
        )
        raise FileNotFoundError(
            f"expected a checkpoint {ENDINGS} in {folder}, found {found_instead}"
        )
    raise ValueError(
        f"expected one checkpoint in {folder}, found {[p.name for p in choices]}; name the file "
        "(on the hub: owner/name:file)"
    )
