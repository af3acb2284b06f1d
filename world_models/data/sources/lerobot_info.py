"""What `meta/info.json` of a LeRobot data set says: version, rate, cameras, names and splits."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2w_gym.configs.names import lookup
from v2w_gym.configs.rules import Rate
from v2w_gym.configs.text import brief
from v2w_gym.configs.values import to_value
from v2w_gym.world_models.downloads import check_present

INFO = Path("meta/info.json")
VERSIONS = ("v2.0", "v2.1", "v3.0")
PICTURES = ("image", "video")
"""Values of a feature's `dtype` that stand for camera frames."""

_RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True)
class Info:
    """The contents of `meta/info.json`.

    Attributes:
        folder: Folder of the data set.
        version: One of `VERSIONS`.
        rate: Frames per second.
        features: Description of each feature by name.
        splits: Name of a split -> its first episode and the one after its last.
        robot_type: LeRobot's own word for the robot.
        chunks_size: Episodes or files in one folder.
        data_path: Path of a Parquet file, with fields for `str.format`.
        video_path: Path of a video, in the same way.
    """

    folder: Path
    version: str
    rate: float
    features: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, str]
    robot_type: str
    chunks_size: int
    data_path: str
    video_path: str

    @property
    def cameras(self) -> dict[str, str]:
        """Short name of each camera -> its feature; depth maps are left out."""
        found = [
            name
            for name, feature in self.features.items()
            if feature.get("dtype") in PICTURES and not _is_depth(feature)
        ]
        short = [name.removeprefix("observation.").removeprefix("images.") for name in found]
        return dict(zip(short if len(set(short)) == len(found) else found, found, strict=True))

    def bounds(self, split: str) -> tuple[int, int]:
        """Return the first episode of a split, and the one after its last.

        Raises:
            ValueError: Unknown split.
        """
        part = lookup(self.splits, split, f"the split of {self.folder}")
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(
                f"expected the split {split!r} as first:last in {self.folder / INFO}, found "
                f"{part!r}"
            )
        return int(match[1]), int(match[2])

    def is_video(self, feature: str) -> bool:
        """Whether the frames of a camera lie in videos."""
        return self.features[feature]["dtype"] == "video"


def read_info(folder: Path) -> Info:
    """Read `meta/info.json`.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Another version, or a damaged file.
    """
    path = folder / INFO
    found = _read_json(path)
    version = str(found.get("codebase_version"))
    if version not in VERSIONS:
        raise ValueError(
            f"expected a LeRobot data set of version {', '.join(VERSIONS)} in {path}, found "
            f"{version!r}; convert it with LeRobot's own scripts"
        )
    try:
        return Info(
            folder,
            version,
            to_value(Rate, found["fps"], "fps"),
            {str(name): dict(feature) for name, feature in found["features"].items()},
            {str(name): str(part) for name, part in (found.get("splits") or {}).items()},
            str(found.get("robot_type") or ""),
            int(found.get("chunks_size") or 1000),
            str(found["data_path"]),
            str(found.get("video_path") or ""),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected fps, features and data_path in {path}, as LeRobot writes them, found this: "
            f"{type(error).__name__} {error}"
        ) from error


def action_names(info: Info, feature: str) -> tuple[tuple[str, int], ...] | None:
    """Return names and sizes of the groups of values in a feature; None if it has no clear names.

    `names` of LeRobot is a list, a list in a list, `{"motors": [...]}` or `{name: place}`. Names
    such as `world_vector[0]`, `world_vector[1]` are one group.
    """
    names = _flat_names(info.features[feature].get("names"))
    shape = info.features[feature].get("shape")
    if shape is None or list(shape) != [len(names)]:
        return None
    groups: dict[str, int] = {}
    for name in names:
        group = re.sub(r"\[[^\]]*\]$", "", name)
        if group in groups and (group == name or group != next(reversed(groups))):
            return None
        groups[group] = groups.get(group, 0) + 1
    return tuple(groups.items())


def _flat_names(names: object) -> list[str]:
    if isinstance(names, Mapping):
        by_place = all(isinstance(place, int) for place in names.values())
        return sorted(names, key=names.__getitem__) if by_place else _flat_names([*names.values()])
    if isinstance(names, list):
        return [name for part in names for name in _flat_names(part)]
    return [] if names is None else [str(names)]


def _is_depth(feature: Mapping[str, Any]) -> bool:
    stored = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(stored.get("is_depth_map") or stored.get("video.is_depth_map"))


def _read_json(path: Path) -> Mapping[str, Any]:
    check_present(path)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, found this: {error}; copy it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"expected settings by name in {path}, found {brief(found, 100)}")
    return found
