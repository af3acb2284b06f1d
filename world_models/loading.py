"""Find a world model by path or hub id, once per process."""

import functools
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from glob import escape
from pathlib import Path
from typing import Any

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.model import SamplerConfig, preset_sampler
from v2w_gym.configs.names import hint
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.checkpoint import read_card
from v2w_gym.world_models.device import usable_device
from v2w_gym.world_models.vid2world.model import Vid2World, load_vid2world
from v2w_gym.world_models.weight_files import INDEX, is_part

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "weights" / "standin.safetensors"
"""A small world model of the stand-in robot, trained by this project."""
HUB_ID = re.compile(
    r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?"
    r"(:(?P<file>(?!/)(?!([^:]*/)?\.\.(/|$))[^:\x00-\x1f\x7f\\]+))?"
)
"""`owner/name`, `owner/name@revision`, `owner/name:file`, `owner/name@revision:file`."""
ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def load_world_model(
    checkpoint: str | None = None,
    *,
    preset: str | None = None,
    sampler: Mapping[str, Any] | None = None,
    window: int | None = None,
    context_frames: int | None = None,
    device: str = "cpu",
) -> WorldModel:
    """Return a world model, ready for inference.

    The same weights are loaded once per process and device, and shared.

    Args:
        checkpoint: A file of ours (`.safetensors` with its card) or in the published format
            (`.ckpt`, `.safetensors`), the index of one in parts, a folder with one of them, or a
            hub id, see `HUB_ID`; None is the bundled model.
        preset: Sampler by name, see `v2w_gym.configs.model.preset_sampler`; None for the card's
            own.
        sampler: Fields of `SamplerConfig` that differ from that.
        window: Most frames it looks at, the new one included; None for the card's own.
        context_frames: Recorded frames it begins with; None for the card's own.
        device: Where it runs, such as `cuda`.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: Not a whole world model checkpoint, an unknown preset or sampler setting, a
            window without room, or a device that is not there.
        OSError: The hub cannot be reached.
    """
    path = BUNDLED if checkpoint is None else find_checkpoint(str(checkpoint))
    model = _load(path, path.stat().st_mtime_ns, usable_device(device))
    chosen = model.cfg.sampler if preset is None else preset_sampler(preset, model.cfg)
    chosen = from_mapping(SamplerConfig, {**asdict(chosen), **(sampler or {})}, "sampler")
    known = model.context_frames if context_frames is None else context_frames
    longest = model.window if window is None else window
    return model.with_sampler(chosen).with_window(longest, known)


def find_checkpoint(checkpoint: str) -> Path:
    """Return the file that a path, a folder or a hub id means; a hub id is downloaded.

    Raises:
        FileNotFoundError: Nothing there.
        ValueError: A folder with several checkpoints.
        OSError: The hub cannot be reached.
    """
    path, hub = to_path(checkpoint), HUB_ID.fullmatch(checkpoint)
    if path.is_file():
        return path.absolute()  # not resolved: what a hub's cache links to has no ending
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


@functools.lru_cache(maxsize=2)
def _load(path: Path, written: int, device: str) -> Vid2World:
    """Load what was written to `path` at a time, so that a file that is replaced is read again."""
    if read_card(path) is not None:
        return load_vid2world(path, device)
    return load_published(path).to(device)


def load_published(path: Path) -> Vid2World:
    """Return the model of a file in the published format, which carries no card.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a whole causal checkpoint, or a damaged one.
    """
    from v2w_gym.world_models.vid2world.published.load import load_published, read_published

    published = read_published(path)
    if not published.causal:
        raise ValueError(
            f"expected a causal checkpoint, found the base that Vid2World starts from at {path}; "
            f"make it causal: v2w convert {path} OUT.safetensors robot=google_robot "
            "transfer=extrapolative"
        )
    if published.others:
        log.warning(
            "%s: the weights used are %s; there are others in %s: v2w convert chooses by averaged=",
            *(path, published.chosen, ", ".join(published.others)),
        )
    model = load_published(published)
    source = {"source": path.name, "weights": published.chosen}
    model.card = model.make_card({**source, "norms_and_biases": _digest(model)})
    return model


def _digest(model: Vid2World) -> str:
    """Tell two trainings apart without reading gigabytes: the sha256 of every weight vector."""
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        if value.ndim == 1:
            digest.update(value.float().numpy().tobytes())
    return digest.hexdigest()
