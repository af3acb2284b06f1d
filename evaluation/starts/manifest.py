"""Manifests: what starts are, without their pixels, so that anybody can take them again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from v2w_gym.configs.data import StartsConfig
from v2w_gym.configs.loader import default_of, from_mapping
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data.sources.base import Source
from v2w_gym.world_models.data.sources.opening import find_fields
from v2w_gym.world_models.data.sources.selection import identify_ids
from v2w_gym.world_models.data.starts.files import FORMAT, Start, StartFile
from v2w_gym.world_models.run_folder import differences, identify_files, read_identity

PLACES = ("source", "output", "repeat")
"""Settings that say where something is; a manifest does not hold them."""
OWN = (*PLACES, "format", "fields", "camera")
"""Settings that a command may have beside `repeat`: where the data are, and how to read them."""
LISTS = ("ids", "excluded")
RESOLVED = (*LISTS, "fields")
"""Settings that may name files, and in a manifest stand for the content of these."""
SHOWN = 3
"""Most differences that a message names."""


@dataclass(frozen=True)
class Listed:
    """A start in a manifest.

    Attributes:
        id: Name of the episode.
        frame: Number of the newest frame in the episode.
        sha256: The sha256 of the frames' pixels; see `Start.sha256`.
    """

    id: str
    frame: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The starts of an earlier command, to take again.

    Attributes:
        path: The file, for messages.
        settings: The command's settings, without those in `PLACES`.
        starts: Its starts, in order.
    """

    path: Path
    settings: Mapping[str, Any]
    starts: tuple[Listed, ...]

    def config(self, cfg: StartsConfig) -> StartsConfig:
        """Return the settings of the earlier command for the data that `cfg` names.

        Raises:
            ValueError: `cfg` chooses starts, too.
        """
        for setting in fields(StartsConfig):
            name = setting.name
            if name not in OWN and getattr(cfg, name) != default_of(setting):
                raise ValueError(
                    f"expected no {name} beside repeat, which takes the starts in {self.path}, "
                    f"found {getattr(cfg, name)!r}; leave {name} out"
                )
        own = {name: getattr(cfg, name) for name in OWN if name in PLACES or getattr(cfg, name)}
        taken = {name: value for name, value in self.settings.items() if name not in RESOLVED}
        return from_mapping(StartsConfig, {**taken, **own}, str(self.path))

    def check(self, starts: Sequence[Start]) -> None:
        """Check that starts have the same frames.

        Raises:
            ValueError: They have not.
        """
        other = [
            start.id
            for start, listed in zip(starts, self.starts, strict=True)
            if start.sha256 != listed.sha256
        ]
        if other:
            shown = ", ".join(map(repr, other[:SHOWN]))
            raise ValueError(
                f"expected the frames of {self.path}, found others in {len(other):,} of "
                f"{len(starts):,} starts, such as {shown}; the data, or their camera, are not "
                "the same"
            )


def load_manifest(name: str) -> Manifest:
    """Read the manifest of an earlier command.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another or a damaged file.
    """
    path = to_path(name)
    if not path.is_file():
        raise FileNotFoundError(f"expected a manifest of `v2w starts` at {path}, found no file")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"the format {found['format']!r}, not {FORMAT}")
        starts = tuple(
            Listed(str(start["id"]), int(start["frame"]), str(start["sha256"]))
            for start in found["starts"]
        )
        return Manifest(path, dict(found["settings"]), starts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected a manifest of `v2w starts` in {path}, found {type(error).__name__} {error}"
        ) from error


def identify(cfg: StartsConfig, source: Source) -> dict[str, Any]:
    """Return what determines the starts: the data and the settings, in any folder."""
    settings = {name: value for name, value in asdict(cfg).items() if name not in PLACES}
    for name in LISTS:
        settings[name] = identify_ids(settings[name])
    if cfg.fields:
        settings["fields"] = asdict(find_fields(cfg.fields))
    files = identify_files(source.files)
    return {"format": FORMAT, "source": {"name": source.name, "files": files}, "settings": settings}


def describe(file: StartFile, corrected: str, at_rest: Sequence[str]) -> dict[str, Any]:
    """Return what a manifest says of the starts themselves.

    Args:
        file: The starts.
        corrected: What was corrected in the recorded actions.
        at_rest: The robot's action fields that the source lacks.
    """
    frames = file.starts[0].frames
    return {
        "robot": file.robot,
        "camera": file.camera,
        "frame_size": list(frames.shape[1:3]),
        "context_frames": len(frames),
        "corrected_actions": corrected,
        "fields_at_rest": list(at_rest),
        "starts": [
            {
                "number": number,
                "id": start.id,
                "frame": start.step,
                "episode_frames": start.length,
                "instruction": start.instruction,
                "sha256": start.sha256,
            }
            for number, start in enumerate(file.starts)
        ],
    }


def check_free(manifest: Path, others: Sequence[Path], identity: Mapping[str, Any]) -> None:
    """Check that none of a command's files exist, or that the same command wrote them.

    Raises:
        ValueError: Another command's files; the message names the differences.
    """
    earlier = read_identity(manifest)
    if earlier is None:
        if there := [path for path in others if path.exists()]:
            raise ValueError(
                f"expected no file at {there[0]}, found one without its manifest {manifest.name}; "
                "choose another output=..., or delete it"
            )
        return
    different = differences({name: earlier.get(name) for name in identity}, identity)
    if different:
        shown = [f"{name} {old!r}, not {new!r}" for name, (old, new) in different.items()]
        more = f" and {len(shown) - SHOWN} more" * (len(shown) > SHOWN)
        raise ValueError(
            f"expected no starts of another command at {manifest.with_suffix('.npz')}, found some "
            f"with {'; '.join(shown[:SHOWN])}{more}; choose another output=..., or delete them"
        )
