"""TFDS builder folders of RLDS episodes, for tests that read them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.saved_models import tensorflow
from v2w_gym.world_models.data.tensorflow import import_tfds

Schema = Mapping[str, tuple[str, tuple[int, ...]]]
"""Path in a record -> type ("image", "string" or numpy's) and shape of one value."""

FRACTAL: Schema = {
    "steps/action/base_displacement_vector": ("float32", (2,)),
    "steps/action/base_displacement_vertical_rotation": ("float32", (1,)),
    "steps/action/gripper_closedness_action": ("float32", (1,)),
    "steps/action/rotation_delta": ("float32", (3,)),
    "steps/action/terminate_episode": ("int32", (3,)),
    "steps/action/world_vector": ("float32", (3,)),
    "steps/is_first": ("bool", ()),
    "steps/is_last": ("bool", ()),
    "steps/is_terminal": ("bool", ()),
    "steps/reward": ("float32", ()),
    "steps/observation/image": ("image", (256, 320, 3)),
    "steps/observation/natural_language_embedding": ("float32", (512,)),
    "steps/observation/natural_language_instruction": ("string", ()),
    "steps/observation/base_pose_tool_reached": ("float32", (7,)),
    "steps/observation/gripper_closed": ("float32", (1,)),
    "steps/observation/gripper_closedness_commanded": ("float32", (1,)),
    "steps/observation/height_to_bottom": ("float32", (1,)),
    "steps/observation/orientation_box": ("float32", (2, 3)),
    "steps/observation/orientation_start": ("float32", (4,)),
    "steps/observation/robot_orientation_positions_box": ("float32", (3, 3)),
    "steps/observation/rotation_delta_to_go": ("float32", (3,)),
    "steps/observation/src_rotation": ("float32", (4,)),
    "steps/observation/vector_to_go": ("float32", (3,)),
    "steps/observation/workspace_bounds": ("float32", (3, 3)),
    **{
        f"aspects/{name}": ("bool", ())
        for name in ("already_success", "feasible", "has_aspects", "success", "undesirable")
    },
    **{
        f"attributes/{name}{kind}": (dtype, ())
        for name in ("collection_mode", "data_type", "env", "location", "task_family")
        for kind, dtype in (("", "int64"), ("_name", "string"))
    },
}
"""The features of fractal20220817_data 0.1.0."""


def fractal_episode(steps: int, text: str, vector: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return values for every feature of `FRACTAL`; (steps, ...) for those of the steps."""
    rng = np.random.default_rng(seed)
    episode: dict[str, Any] = {}
    for path, (dtype, shape) in FRACTAL.items():
        whole = (steps, *shape) if path.startswith("steps/") else shape
        if dtype == "image":
            rows = rng.integers(0, 256, (steps, 16, 20, 3), np.uint8)
            episode[path] = rows.repeat(16, axis=1).repeat(16, axis=2)
        elif dtype == "string":
            episode[path] = "kitchen"
        elif dtype == "float32":
            episode[path] = rng.normal(size=whole).astype(np.float32)
        else:
            episode[path] = rng.integers(0, 2, whole).astype(dtype)
    modes = rng.integers(0, 3, steps)
    episode["steps/action/terminate_episode"] = np.eye(3, dtype=np.int32)[modes]
    episode["steps/observation/natural_language_instruction"] = [text] * steps
    episode["steps/observation/natural_language_embedding"] = np.tile(vector, (steps, 1))
    episode["steps/is_last"] = np.arange(steps) == steps - 1
    modes = rng.integers(0, 3, steps)
    episode["steps/action/terminate_episode"] = np.eye(3, dtype=np.int32)[modes]
    return episode


def write_rlds(
    folder: Path,
    shards: Sequence[Sequence[Mapping[str, Any]]],
    schema: Schema = FRACTAL,
    name: str = "fractal20220817_data",
    split: str = "train",
) -> Path:
    """Write a folder with one split; `shards` holds the episodes of each file."""
    folder.mkdir(parents=True)
    for number, episodes in enumerate(shards):
        path = folder / f"{name}-{split}.tfrecord-{number:05d}-of-{len(shards):05d}"
        write_records(path, [example(episode) for episode in episodes])
    described = {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": split,
        "shardLengths": [str(len(episodes)) for episodes in shards],
    }
    info = {"fileFormat": "tfrecord", "name": name, "splits": [described], "version": "0.1.0"}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    features_of(schema).save_config(str(folder))
    return folder


def write_records(path: Path, records: Sequence[bytes]) -> None:
    with tensorflow().io.TFRecordWriter(str(path)) as file:
        for record in records:
            file.write(record)


def example(features: Mapping[str, Any]) -> bytes:
    """Return a serialised tf.train.Example; images are stored as PNG."""
    train = tensorflow().train
    written = {name: feature(values) for name, values in features.items()}
    return train.Example(features=train.Features(feature=written)).SerializeToString()


def feature(values: Any) -> Any:
    """Return a tf.train.Feature: strings, images (T, H, W, 3), floats or integers."""
    train = tensorflow().train
    if isinstance(values, str | bytes):
        values = [values]
    if not isinstance(values, list) and values.ndim == 4 and values.dtype == np.uint8:
        values = [encoded(image, "PNG") for image in values]
    if isinstance(values, list):
        texts = [value.encode() if isinstance(value, str) else value for value in values]
        return train.Feature(bytes_list=train.BytesList(value=texts))
    if values.dtype.kind == "f":
        return train.Feature(float_list=train.FloatList(value=values.ravel()))
    return train.Feature(int64_list=train.Int64List(value=values.ravel().astype(np.int64)))


def encoded(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def features_of(schema: Schema) -> Any:
    """Return TFDS's description of these features."""
    features = import_tfds().features
    root: dict[str, Any] = {}
    for path, (dtype, shape) in schema.items():
        *parents, leaf = path.split("/")
        node = root
        for parent in parents:
            node = node.setdefault(parent, {})
        if dtype == "image":
            node[leaf] = features.Image(shape=shape, dtype=np.uint8, encoding_format="png")
        elif dtype == "string":
            node[leaf] = features.Text()
        else:
            node[leaf] = features.Tensor(shape=shape, dtype=np.dtype(dtype))
    return features.FeaturesDict({**root, "steps": features.Dataset(root["steps"])})
