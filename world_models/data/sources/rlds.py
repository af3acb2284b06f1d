"""Episodes of RLDS data sets, such as those of Open X-Embodiment, in TFDS builder folders."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.sources import SOURCES, SourceFields
from v2w_gym.world_models.data.episode import Episode, Steps, rows_of
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.expressions import (
    ActionFields,
    parse_expression,
    read_actions,
)
from v2w_gym.world_models.data.sources.rlds_records import RldsDataset, RldsRecord, open_rlds
from v2w_gym.world_models.data.sources.rlds_schema import (
    FEATURES,
    INFO,
    Feature,
    list_versions,
)

ACTION = "action"
OBSERVATION = "observation/"


@dataclass(frozen=True)
class RldsFrames:
    """The frames of one camera, decoded on demand.

    Attributes:
        record: The stored episode.
        feature: Name of the camera's feature.
        pictures: The stored JPEG or PNG files.
    """

    record: RldsRecord
    feature: str
    pictures: Sequence[bytes]

    def __len__(self) -> int:
        """Return the number of frames (T)."""
        return len(self.pictures)

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        """Return the frames at `steps`, (n, H, W, 3) uint8, with the pixels of TFDS."""
        return self.record.frames(self.feature, rows_of(steps, len(self)).tolist())

    def encoded(self, step: int) -> bytes:
        """Return the stored JPEG or PNG file of one frame."""
        return self.pictures[step]


@dataclass(frozen=True)
class RldsSource:
    """The episodes of one split, in the order of the files.

    Attributes:
        dataset: The stored episodes.
        fields: Where they keep what an episode needs.
    """

    dataset: RldsDataset
    fields: SourceFields

    @property
    def name(self) -> str:
        """The name, version and split of the data set."""
        return f"{self.dataset.label}, {self.dataset.split}"

    @property
    def files(self) -> tuple[Path, ...]:
        """The TFRecord files of the split."""
        return tuple(shard.path for shard in self.dataset.shards)

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.dataset)

    def ids(self) -> Sequence[str]:
        """Return the published name of every episode, or the `tfds_id` of TFDS.

        The records are read only if `fields.id` names a field.
        """
        if self.fields.id:
            return [str(record.value(self.fields.id)) for record in self.dataset.read()]
        return [name for shard in self.dataset.shards for name in shard.ids]

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        """Yield the episodes from number `start` up to `stop`; frames are decoded on demand.

        Raises:
            ValueError: A damaged file or record, or an episode without this camera.
        """
        for record in self.dataset.read(start, stop):
            yield self._to_episode(record)

    def actions(self, record: RldsRecord) -> tuple[NDArray[np.float32], ActionFields | None]:
        """Return the actions of all T steps, (T, A), and their fields; None for the robot's order.

        Raises:
            ValueError: No actions, or a record that contradicts its description.
        """
        if self.fields.actions:
            return read_actions(self.fields.actions, record.step)
        return record.step(ACTION).astype(np.float32), None

    def _to_episode(self, record: RldsRecord) -> Episode:
        pictures = record.pictures(self.fields.frames)
        if not pictures:
            raise ValueError(f"expected an episode with steps at {record.origin}, found none")
        _check_camera(record, self.fields.frames, pictures)
        known = bool(self.fields.actions) or ACTION in record.features
        actions, action_fields = self.actions(record) if known else (None, None)
        cameras = [f for f in record.features.values() if f.is_camera]
        return Episode(
            id=str(record.value(self.fields.id)) if self.fields.id else record.place.id,
            frames=RldsFrames(record, self.fields.frames, pictures),
            # In RLDS, the action of the last step has no meaning.
            actions=None if actions is None else actions[:-1],
            action_fields=action_fields,
            instruction=_find_instruction(record, self.fields.instruction),
            camera=self.fields.frames.removeprefix(OBSERVATION) if len(cameras) > 1 else "",
            rate=self.fields.rate,
            robot=self.fields.robot or None,
            success=_find_success(record, self.fields.success),
        )


def recognises(path: Path) -> bool:
    """Whether `path` is a TFDS builder folder, or holds the versions of a data set."""
    return (path / INFO).is_file() or (path / FEATURES).is_file() or bool(list_versions(path))


def open_source(path: Path, wanted: Wanted) -> RldsSource:
    """Open a TFDS builder folder, or the only version in a folder.

    Raises:
        FileNotFoundError: Not such a folder, or a file of the split is missing.
        ModuleNotFoundError: TFDS is not installed.
        ValueError: As for `open_rlds`, unknown fields of an unknown data set, or a field or camera
            that the data set lacks.
    """
    dataset = open_rlds(path, wanted.split)
    fields = wanted.fields or SOURCES.get(dataset.name)
    if fields is None:
        raise ValueError(
            f"expected a data set with known fields ({', '.join(SOURCES)}), found {dataset.name} "
            f"with {_describe(dataset)}; write the fields of an episode to a YAML file, such as "
            f"{_suggest(dataset)}, and give fields=FILE.yaml"
        )
    if wanted.camera:
        fields = replace(fields, frames=_find_camera(dataset, wanted.camera))
    _check_fields(dataset, fields)
    return RldsSource(dataset, fields)


def _find_camera(dataset: RldsDataset, name: str) -> str:
    cameras = {
        path.removeprefix(OBSERVATION): path for path, f in dataset.features.items() if f.is_camera
    }
    short = name.removeprefix(OBSERVATION)
    if short not in cameras:
        raise ValueError(
            f"expected a camera of {dataset.name}, one of {sorted(cameras)}, found "
            f"{name!r}{hint(short, cameras)}"
        )
    return cameras[short]


def _check_camera(record: RldsRecord, name: str, pictures: Sequence[bytes]) -> None:
    """Refuse an episode in which the camera is missing, so that its frames are all black.

    BridgeData V2 has such frames. Its flags `has_image_0` to `has_image_3` do not help: they are
    False in episodes with good frames.
    """
    if len(set(pictures)) == 1 and not record.frames(name, [0]).any():
        raise ValueError(
            f"expected frames in {name} of {record.origin}, found {len(pictures)} black ones: this "
            "episode lacks the camera; leave it out, or choose another camera"
        )


def _find_instruction(record: RldsRecord, name: str) -> str | None:
    if not name:
        return None
    texts = record.text(name) if name in record.features else [str(record.value(name))]
    return next((text for text in texts if text), None)


def _find_success(record: RldsRecord, name: str) -> NDArray[np.bool_] | None:
    """Return whether each step is a success (T,); only the last can be if the episode says it."""
    if not name:
        return None
    if name in record.features:
        return record.step(name).astype(np.bool_)
    success = np.zeros(len(record), np.bool_)
    success[-1] = bool(record.value(name))
    return success


def _check_fields(dataset: RldsDataset, fields: SourceFields) -> None:
    """Check before reading that the data set has the fields, in a fitting kind and width.

    Raises:
        ValueError: It lacks one.
    """
    steps, whole = dataset.features, dataset.episode_features
    try:
        if not _find(steps, fields.frames).is_camera:
            raise ValueError(f"expected frames (H, W, 3) uint8 in {fields.frames!r}, found others")
        if fields.actions:
            read_actions(fields.actions, lambda name: _zeros(_find(steps, name)))
        for name in (fields.instruction, fields.success):
            if name:
                _find({**steps, **whole}, name)
        if fields.id:
            _find(whole, fields.id)
    except ValueError as error:
        fitting = [name for name, known in SOURCES.items() if _fits(dataset, known)]
        advice = f", which has those of {fitting[0]}" if fitting else ""
        raise ValueError(f"the fields do not fit {dataset.name}{advice}: {error}") from error


def _find(features: Mapping[str, Feature], name: str) -> Feature:
    return lookup(features, name, "the field")


def _fits(dataset: RldsDataset, fields: SourceFields) -> bool:
    """Whether the data set has the frames and actions of a known one."""
    names = [parse_expression(text).name for text in fields.actions.values()]
    return {fields.frames, *names} <= set(dataset.features)


def _zeros(feature: Feature) -> NDArray[np.float32]:
    """Return one step of a feature, to check expressions without data."""
    if feature.kind != "tensor":
        raise ValueError(f"expected numbers in {feature.path}, found {feature.kind}")
    return np.zeros((1, *feature.row), np.float32)


def _describe(dataset: RldsDataset) -> str:
    """Return the data set's fields with their types and shapes."""
    features = {**dataset.features, **dataset.episode_features}
    return ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())


def _kind(feature: Feature) -> str:
    kind = str(feature.dtype) if feature.kind == "tensor" else feature.kind
    return " ".join([kind, *(str(size or "any") for size in feature.shape)])


def _suggest(dataset: RldsDataset) -> str:
    """Return one line of YAML with the fields of an episode, as far as their names tell."""
    known = {name: f for name, f in dataset.features.items() if f.is_readable}
    cameras = [name for name, f in known.items() if f.is_camera]
    texts = [name for name, f in known.items() if f.kind == "text"]
    actions = {name.partition("/")[2]: name for name in known if name.startswith(f"{ACTION}/")}
    if ACTION in known:
        actions = {"FIELD_OF_THE_ROBOT": f'"{ACTION}[0:{known[ACTION].values_per_row}]"'}
    parts = {
        "frames": cameras[0] if cameras else '""',
        "actions": f"{{{', '.join(f'{name}: {text}' for name, text in actions.items())}}}",
        "instruction": texts[0] if texts else '""',
        "rate": "null",
    }
    return f"{{{', '.join(f'{name}: {text}' for name, text in parts.items())}}}"
